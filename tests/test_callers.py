"""Names of callers, and who of them may call."""

from __future__ import annotations

import pytest

from ranker.callers import MAX_NAME, MOST_CALLERS, CallerPolicy, as_caller_name, certified_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("spiffe://shop.test/retrieval", "spiffe://shop.test/retrieval", id="spiffe"),
        pytest.param("spiffe://shop.test/ns/a/sa/B_1", "spiffe://shop.test/ns/a/sa/B_1", id="path"),
        pytest.param("dns:retrieval.shop.test", "dns:retrieval.shop.test", id="host"),
        pytest.param("dns:Retrieval.SHOP.test", "dns:retrieval.shop.test", id="upper-case"),
    ],
)
def test_names(text, name):
    assert as_caller_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", "retrieval", "dns:", "dns:*.shop.test", "dns:a b", "dns:a\n", "dns:.a", "dns:a."),
        *("spiffe://", "spiffe://Shop/a", "spiffe://shop/", "spiffe://shop/a/", "spiffe://shop//a"),
        *("spiffe://shop/a/../b", "spiffe://shop/.", "spiffe://shop/*", "spiffe://shop/a?b"),
        *("SPIFFE://shop/a", "uri:spiffe://shop/a", "dns:" + "a" * MAX_NAME, "dns:\u00e9"),
    ],
)
def test_what_is_no_name(text):
    with pytest.raises(ValueError, match="expected spiffe://TRUST-DOMAIN/PATH or dns:HOST"):
        as_caller_name(text)


@pytest.mark.parametrize(
    ("uris", "hosts", "names"),
    [
        pytest.param([b"spiffe://a/b"], [b"C.d"], ("spiffe://a/b", "dns:c.d"), id="both"),
        pytest.param([b"spiffe://a/b", b"spiffe://a/c"], [b"d"], ("dns:d",), id="two-uris"),
        pytest.param([b"https://a/b"], [], (), id="another-uri"),
        pytest.param([b"dns:a"], [], ("dns:a",), id="a-uri-that-looks-like-a-host"),
        pytest.param([], [b"*.a", b"a\0.b", b"", b"\xff"], (), id="not-well-formed"),
        pytest.param([], [b"spiffe://a/b"], (), id="a-host-that-looks-like-a-spiffe-id"),
    ],
)
def test_names_of_a_certificate(uris, hosts, names):
    assert certified_names(uris, hosts) == names


def test_the_first_name_that_may_call_counts():
    policy = CallerPolicy(("dns:a", "dns:b"))
    assert policy.find(["dns:c", "dns:b", "dns:a"]) == "dns:b"
    assert policy.find(["dns:c"]) is None


def test_another_process_reads_what_this_one_wrote():
    policy = CallerPolicy(("dns:a", "dns:b"))
    assert CallerPolicy.from_facts(policy.to_facts()) == policy


def test_there_is_a_bound_on_callers():
    policy = CallerPolicy(tuple(f"dns:a{i}" for i in range(MOST_CALLERS)))
    assert policy.with_others(CallerPolicy(("dns:a0",))) == policy
    with pytest.raises(
        ValueError, match=f"expected at most {MOST_CALLERS}, got {MOST_CALLERS + 1}"
    ):
        policy.with_others(CallerPolicy(("dns:b",)))

"""Names in certificates, as a library for certificates writes them."""

from __future__ import annotations

import ipaddress
import ssl

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ranker.certificate import names_in
from tests.certificates import Authority

URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


def issue(folder, names) -> bytes:
    return Authority(folder).issue(folder / "own", "own", names)[0].read_bytes()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        pytest.param([URI("spiffe://a/b"), DNS("c.d")], ("spiffe://a/b", "dns:c.d"), id="both"),
        pytest.param(
            [DNS(f"h{i}.test") for i in range(100)],
            tuple(f"dns:h{i}.test" for i in range(100)),
            id="a-hundred",
        ),
        pytest.param([DNS("a.test\0.evil.test")], (), id="a-byte-of-0"),
        pytest.param([x509.RFC822Name("a.test")], (), id="mail"),
        pytest.param([x509.IPAddress(ipaddress.ip_address("::1"))], (), id="address"),
        pytest.param([], (), id="none"),
    ],
)
def test_names(tmp_path, names, found):
    assert names_in(issue(tmp_path, names)) == found


def test_the_common_name_is_none(tmp_path):
    pem = Authority(tmp_path).issue(tmp_path / "own", "retrieval.shop.test", [])[0].read_bytes()
    assert names_in(pem) == ()


@pytest.fixture(scope="module")
def der(tmp_path_factory) -> bytes:
    pem = issue(tmp_path_factory.mktemp("cut"), [URI("spiffe://a/b"), DNS("c.d")])
    return ssl.PEM_cert_to_DER_cert(pem.decode())


@given(data=st.data())
def test_what_is_broken_has_no_other_names(der, data):
    at = data.draw(st.integers(0, len(der) - 1))
    broken = data.draw(
        st.sampled_from([der[:at], der[:at] + bytes([der[at] ^ 0x81]) + der[at + 1 :], der + b"0"])
    )
    found = names_in(ssl.DER_cert_to_PEM_cert(broken).encode())
    assert all(name.startswith(("spiffe://", "dns:")) for name in found)


@given(data=st.binary(max_size=60))
def test_anything_at_all(data):
    assert names_in(data) == ()
    assert names_in(ssl.DER_cert_to_PEM_cert(data).encode()) == ()

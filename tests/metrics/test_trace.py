import pytest

from ranker.metrics.trace import Trace, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", True, id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", False, id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", True, id="other flags too"),
        pytest.param(f"00-{TRACE}-{SPAN}-02", False, id="other flags only"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", True, id="later version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-more", True, id="later version, longer"),
    ],
)
def test_valid_header(header: str, sampled: bool):
    assert parse_traceparent(header) == Trace(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param(f"00-{TRACE}-{SPAN}", id="no flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", id="short flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", id="version 00, longer"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01more", id="later version, longer without a dash"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="forbidden version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="zero trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="zero span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper case"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", id="short trace"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", id="newline"),
        pytest.param(f" 00-{TRACE}-{SPAN}-01", id="space"),
        pytest.param(f"00-{TRACE[:-1]}\u0661-{SPAN}-01", id="foreign digit"),
    ],
)
def test_invalid_header_is_none(header: str):
    assert parse_traceparent(header) is None

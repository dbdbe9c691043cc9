"""What a client is told of TLS."""

from __future__ import annotations

import pytest

from ranker.client import RankerClient, Tls


@pytest.mark.parametrize("fields", [{"cert": "a.crt"}, {"key": "a.key"}])
def test_a_certificate_and_its_key_belong_together(fields):
    with pytest.raises(ValueError, match="expected cert and key, or neither"):
        Tls(**fields)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ca\.crt"):
        RankerClient("localhost:1", tls=Tls(ca=tmp_path / "ca.crt"))

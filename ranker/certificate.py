"""The names in a caller's certificate.

Read from the certificate itself, by both ends that speak TLS: what grpcio tells of names ends at a
byte of 0, so that a certificate for `retrieval\\0.evil.example` would show the name `retrieval`.
Whoever calls has checked the certificate's signature.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator

from ranker.callers import certified_names

_SEQUENCE, _OID, _OCTETS, _EXTENSIONS = 0x30, 0x06, 0x04, 0xA3
_HOST, _URI = 0x82, 0x86
_SUBJECT_ALTERNATIVE_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17


@functools.lru_cache(maxsize=1024)
def names_in(pem: bytes) -> tuple[str, ...]:
    """The names of the owner of a certificate in PEM; see `ranker.callers.certified_names`.

    A certificate that is not well-formed has none.
    """
    try:
        names = list(_alternative_names(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))))
    except ValueError:
        return ()
    uris = [name for kind, name in names if kind == _URI]
    return certified_names(uris, [name for kind, name in names if kind == _HOST])


def _alternative_names(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and values of the subject alternative names: RFC 5280, section 4.2.1.6."""
    [(_, certificate)] = _read(der)
    (_, signed), *_ = _read(certificate)
    found = []
    for kind, extensions in _read(signed):
        if kind != _EXTENSIONS:
            continue
        for _, extension in _read(_only(extensions, _SEQUENCE)):
            (oid_kind, oid), *_, (value_kind, value) = _read(extension)
            if (oid_kind, oid, value_kind) == (_OID, _SUBJECT_ALTERNATIVE_NAME, _OCTETS):
                found.append(_only(value, _SEQUENCE))
    if len(found) > 1:
        raise ValueError("an extension must not occur twice")
    for names in found:
        yield from _read(names)


def _only(data: bytes, kind: int) -> bytes:
    """The value of the one element in some bytes, which has to be of that kind."""
    [(found, value)] = _read(data)
    if found != kind:
        raise ValueError("not a certificate")
    return value


def _read(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in some bytes of DER: their tags, of one byte each, and values."""
    at = 0
    while at < len(data):
        kind, size, at = data[at], int.from_bytes(data[at + 1 : at + 2]), at + 2
        if size >= 0x80:
            width = size - 0x80
            size, at = int.from_bytes(data[at : at + width]), at + width
        if at + size > len(data):
            raise ValueError("not a certificate")
        yield kind, data[at : at + size]
        at += size

"""Who may call a server: the names of callers, and what the operator says of them.

A caller's name is what its certificate says: a SPIFFE ID, `spiffe://shop.example/retrieval`, or the
name of a host, `dns:retrieval.shop.example`. It has one only where the server asks for certificates
(`--tls-client-ca`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ranker.quota import Quota

MOST_CALLERS = 64
"""Callers that may be named; each is counted apart."""

MAX_NAME = 255
"""Characters of a name."""

_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]+(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*")
"""https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md#2-spiffe-identity."""

_DNS = re.compile(r"dns:[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


def as_caller_name(text: str) -> str:
    """A caller's name as an operator has written it; upper case in the name of a host is lowered.

    Raises:
        ValueError: it is none. Wildcards are none: a name stands for one caller.
    """
    kind, colon, rest = text.partition(":")
    name = f"dns:{rest.lower()}" if colon and kind == "dns" else text
    if not _is_name(name):
        raise ValueError(
            f"expected spiffe://TRUST-DOMAIN/PATH or dns:HOST, of at most {MAX_NAME} characters "
            f"and without wildcards, got {text[:MAX_NAME]!r}"
        )
    return name


def certified_names(uris: Sequence[bytes], hosts: Sequence[bytes]) -> tuple[str, ...]:
    """The names of a certificate's owner, SPIFFE IDs first.

    A SPIFFE ID counts only if it is the certificate's one URI, as the X.509-SVID standard asks
    (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#2-spiffe-id). What is not
    well-formed is no name, wildcards included.

    Args:
        uris: the certificate's subject alternative names that are URIs.
        hosts: those that are names of hosts.
    """
    texts = [uri.decode("ascii", "replace") for uri in uris] if len(uris) == 1 else []
    texts += ["dns:" + host.decode("ascii", "replace").lower() for host in hosts]
    return tuple(filter(_is_name, texts))


@dataclass(frozen=True)
class CallerPolicy:
    """What the operator says of callers.

    Attributes:
        names: those who may call; empty: anybody may, and nobody is asked for a name.
        quotas: what they may take, by name; who is not there may take anything.
        per_connection: what each connection may take where nobody is asked; None: anything.
    """

    names: tuple[str, ...] = ()
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    per_connection: Quota | None = None

    def with_others(self, others: CallerPolicy) -> CallerPolicy:
        """This one and another; what both name is as the other one says.

        Raises:
            ValueError: they are more than `MOST_CALLERS`.
        """
        names = tuple(dict.fromkeys((*self.names, *others.names)))
        if len(names) > MOST_CALLERS:
            raise ValueError(f"callers: expected at most {MOST_CALLERS}, got {len(names)}")
        return CallerPolicy(
            names,
            {**self.quotas, **others.quotas},
            others.per_connection or self.per_connection,
        )

    def find(self, names: Iterable[str]) -> str | None:
        """The first of a caller's names that may call."""
        return next((name for name in names if name in self.names), None)

    def to_facts(self) -> dict[str, Any]:
        """As another process takes it; `from_facts` reads it."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Reads what `to_facts` wrote, also after JSON."""
        quotas = {name: Quota(**quota) for name, quota in facts["quotas"].items()}
        each = facts["per_connection"]
        return cls(tuple(facts["names"]), quotas, Quota(**each) if each else None)


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and bool(_SPIFFE.fullmatch(text) or _DNS.fullmatch(text))

"""Who calls, as far as a worker knows: by the names that certificates or the office tell."""

from __future__ import annotations

from ranker.callers import CallerPolicy
from ranker.errors import PermissionDeniedError, RankerError, UnauthenticatedError
from ranker.forwarded_caller import ForwardedCaller
from ranker.metrics.recorder import CallerRecorder, Recorder
from ranker.rpc import Call


class Caller:
    """One caller, on however many connections.

    Attributes:
        name: in its certificate; empty: it has none.
        metrics: where its requests are counted.
        refusal: why it may not call; None: it may.
    """

    __slots__ = ("metrics", "name", "refusal")

    def __init__(
        self, name: str, metrics: CallerRecorder, refusal: RankerError | None = None
    ) -> None:
        self.name = name
        self.metrics = metrics
        self.refusal = refusal


class Callers:
    """Tells who calls, and whether that is allowed; see `ranker.rpc.Callers`.

    Each call is asked for its connection's certificate anew. gRPC has no name for a connection by
    which that could be kept: another caller's may come from the same address and port as soon as
    they are free.

    Args:
        recorder: where requests are counted.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[str, Caller] = {}  # also those that might call once: streams have them
        self._others = recorder.other_callers()
        self._nobody = Caller(
            "",
            recorder.nameless_caller(),
            UnauthenticatedError(
                "expected a certificate with a SPIFFE ID or the name of a host among its subject "
                "alternative names; yours has none"
            ),
        )

    def serve(self, policy: CallerPolicy) -> None:
        """Lets these callers in, and no others. The lists of open streams are asked for it, too."""
        for name in policy.names:
            metrics = self._recorder.caller(name)
            caller = self._known.setdefault(name, Caller(name, metrics))
            caller.metrics, caller.refusal = metrics, None
        for name in self._known.keys() - set(policy.names):
            caller = self._known[name]
            caller.metrics, caller.refusal = self._others, _not_allowed(name)

    def refusal_of(self, call: Call) -> RankerError | None:
        """Finds out who calls, and notes it as `call.caller`; returns why that may not be, if so.

        See `ranker.rpc.Callers`. The office asks on its own account unseen.
        """
        names = call.certified_names()
        if not names:
            forwarded = ForwardedCaller.read(call.metadata)
            if forwarded is not None:
                if forwarded.is_office:
                    return None
                names = (forwarded.name,) if forwarded.name else ()
        caller = call.caller = self._find(names)
        return caller.refusal

    def _find(self, names: tuple[str, ...]) -> Caller:
        for name in names:
            known = self._known.get(name)
            if known is not None and known.refusal is None:
                return known
        if not names:
            return self._nobody
        return Caller(names[0], self._others, _not_allowed(names[0]))


def _not_allowed(name: str) -> PermissionDeniedError:
    return PermissionDeniedError(f"{name} is not among those who may call this server")

"""Who calls, as far as a worker knows: by the names that certificates or the office tell."""

from __future__ import annotations

import time

from ranker.callers import CallerPolicy
from ranker.errors import PermissionDeniedError, RankerError, UnauthenticatedError
from ranker.forwarded_caller import ForwardedCaller
from ranker.metrics.caller_recorder import CallerRecorder
from ranker.metrics.recorder import Recorder
from ranker.quota import Quota
from ranker.rpc import Call
from ranker.serving.quotas import CallerQuota, TakenHere

MOST_CONNECTIONS = 4096
"""Of which it is known what they have taken; more than a worker lets be open."""

OFFICE = "unix"
"""How the names of the connections to a worker's own address for the office begin."""


class Caller:
    """One caller, on however many connections.

    Attributes:
        name: in its certificate; empty: it has none.
        metrics: where its requests are counted.
        refusal: why it may not call; None: it may.
        quota: what it may take; None: anything.
    """

    __slots__ = ("metrics", "name", "quota", "refusal")

    def __init__(
        self, name: str, metrics: CallerRecorder, refusal: RankerError | None = None
    ) -> None:
        self.name = name
        self.metrics = metrics
        self.refusal = refusal
        self.quota: CallerQuota | None = None

    def limit(self, quota: Quota | None) -> None:
        """Has it take no more than that from now on."""
        if quota is None:
            self.quota = None
            self.metrics.requests.set_rate(0.0)
            self.metrics.candidates.set_rate(0.0)
        elif self.quota is None or self.quota.quota != quota:
            self.quota = CallerQuota(quota, self.metrics)


class ConnectionQuotas:
    """What each connection may take, for callers without names.

    Args:
        quota: likewise.
        metrics: where their requests are counted.
        workers: how many there are.
    """

    def __init__(self, quota: Quota, metrics: CallerRecorder, workers: int) -> None:
        self._quota = quota
        self._over_http = quota.divided(workers)  # the office asks each worker in turn
        self._metrics = metrics
        self._callers: dict[str, Caller] = {}  # that which has called last is the last

    def caller(self, connection: str, *, over_http: bool) -> Caller:
        """Whoever is at the other end of a connection."""
        caller = self._callers.pop(connection, None)
        if caller is None:
            caller = Caller("", self._metrics)
            quota = self._over_http if over_http else self._quota
            caller.quota = CallerQuota(quota, TakenHere())
            if len(self._callers) >= MOST_CONNECTIONS:
                del self._callers[next(iter(self._callers))]
        self._callers[connection] = caller
        return caller


class Callers:
    """Tells who calls, and whether that is allowed; see `ranker.rpc.Callers`.

    Each call is asked for its connection's certificate, a stream once. gRPC has no name for a
    connection by which that could be kept for the next call: another caller's may come from the
    same address and port as soon as they are free.

    Where no callers are named, whoever has a connection to the port may call. At the address for
    the office nobody shows a certificate: there the office alone may, for those whom it names.

    Args:
        recorder: where requests are counted.
        workers: how many workers there are.
    """

    def __init__(self, recorder: Recorder, workers: int = 1) -> None:
        self._recorder = recorder
        self._workers = workers
        self._policy = CallerPolicy()
        self._connections: ConnectionQuotas | None = None  # where nobody is asked for a name
        self._known: dict[str, Caller] = {}
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
        """Lets these callers in, and no others."""
        before, self._known = self._known, {}
        for name in policy.names:
            metrics = self._recorder.caller(name)
            caller = self._known[name] = before.get(name) or Caller(name, metrics)
            caller.metrics = metrics
            caller.limit(policy.quotas.get(name))
        each = None if policy.names else policy.per_connection
        if each is None:
            self._connections = None
        elif self._connections is None or each != self._policy.per_connection:
            self._connections = ConnectionQuotas(each, self._nobody.metrics, self._workers)
        self._policy = policy

    def refusal_of(self, call: Call) -> RankerError | None:
        """Finds out who calls, and notes it as `call.caller`; returns why that may not be, if so.

        See `ranker.rpc.Callers`. The office asks on its own account unseen.
        """
        names = call.certified_names() if self._known else ()
        forwarded = None if names else ForwardedCaller.read(call.metadata)
        if forwarded is not None:
            if forwarded.is_office:
                return None
            names = (forwarded.name,) if forwarded.name else ()
        if self._known:
            caller = self._find(names)
        elif forwarded is None and call.peer().startswith(OFFICE):
            caller = self._nobody  # the office would have said for whom it asks
        elif self._connections is None:
            return None
        elif forwarded is None:
            caller = self._connections.caller(call.peer(), over_http=False)
        else:
            caller = self._connections.caller(forwarded.connection, over_http=True)
        call.caller = caller
        if forwarded is not None and forwarded.has_waited and caller.quota is not None:
            return caller.refusal or caller.quota.refusal(time.monotonic(), call.deadline)
        return caller.refusal

    def _find(self, names: tuple[str, ...]) -> Caller:
        for name in names:
            known = self._known.get(name)
            if known is not None:
                return known
        if not names:
            return self._nobody
        return Caller(names[0], self._others, _not_allowed(names[0]))


def _not_allowed(name: str) -> PermissionDeniedError:
    return PermissionDeniedError(f"{name} is not among those who may call this server")

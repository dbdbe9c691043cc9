"""Who asks over HTTP: by the names in the certificates, as over gRPC.

Health is for anybody. All else is for those who may call, and a worker is told for whom it is
asked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.callers import CallerPolicy
from ranker.errors import (
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RankerError,
    UnauthenticatedError,
    UnavailableError,
)
from ranker.forwarded_caller import ForwardedCaller
from ranker.office.paced_callers import CONNECTION, Holding, PacedCallers
from ranker.office.problem import problem
from ranker.office.workers import FORWARDED, Workers

REFUSAL_SECONDS = 5.0
"""How long a worker may take to refuse a caller."""

_NAMES = "ranker.certified_names"
"""Where a request's scope has the names in its caller's certificate."""


def with_connection(app: ASGIApp, connection: Holding, names: tuple[str, ...]) -> ASGIApp:
    """An application for one connection, whose caller has these names in its certificate."""
    return _with(app, {CONNECTION: connection, _NAMES: names})


def with_names(app: ASGIApp, names: tuple[str, ...]) -> ASGIApp:
    """An application for a caller that has these names, whatever its certificate says."""
    return _with(app, {_NAMES: names})


def _with(app: ASGIApp, facts: dict[str, Any]) -> ASGIApp:
    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(facts)
        await app(scope, receive, send)

    return told


class CallerCheck:
    """Stands before an application: refuses those who may not call, and forwards the others' names.

    Those that are over their quotas wait (`ranker.office.paced_callers`).

    Args:
        app: the application.
        workers: one of them refuses requests to rank, so that these are counted and logged as
            those over gRPC are.
        public: paths that are for anybody.

    Attributes:
        policy: who may call; None: that is not known yet.
        paced: those that are over their quotas.
    """

    def __init__(
        self, app: ASGIApp, workers: Workers, public: Collection[str], policy: CallerPolicy | None
    ) -> None:
        self.policy = policy
        self.paced = PacedCallers(self._refuse_waiting)
        self._app = app
        self._workers = workers
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        policy, app = self.policy, self._app
        names: tuple[str, ...] = scope.get(_NAMES, ())
        name = policy.find(names) if policy else None
        shown = name or next(iter(names), "")
        forwarded = ForwardedCaller("{}:{}".format(*scope["client"]), shown)
        FORWARDED.set(forwarded)
        if scope["path"] not in self._public:
            if policy is None:
                app = problem(scope["path"], UnavailableError("the configuration is being read"))
            elif policy.names and name is None:
                app = problem(scope["path"], await self._refusal(scope, shown))
            elif scope["method"] == "POST" and (holder := _with_quota(policy, forwarded)):
                app = self.paced.application(holder, app)
        await app(scope, receive, send)

    async def _refusal(self, scope: Scope, name: str) -> RankerError:
        """Why a caller may not call."""
        if scope["method"] == "POST":
            error = await self._refusal_by_worker(scope)
            if isinstance(error, PermissionDeniedError | UnauthenticatedError):
                return error
            # A worker has not heard yet of what it is to refuse, or there is none.
        if name:
            return PermissionDeniedError(f"{name} is not among those who may call this server")
        return UnauthenticatedError("expected a certificate with a SPIFFE ID or the name of a host")

    async def _refuse_waiting(self, scope: Scope) -> RankerError:
        """Why a list is not read that has waited for as long as one may."""
        FORWARDED.set(FORWARDED.get()._replace(has_waited=True))
        error = await self._refusal_by_worker(scope)
        if error is None or isinstance(error, InvalidRequestError):
            # A worker has heard that it may take anything now.
            return OverloadedError("other requests of this caller were before this one", 1.0)
        return error

    async def _refusal_by_worker(self, scope: Scope) -> RankerError | None:
        traceparent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        try:
            await self._workers.rank(b"", REFUSAL_SECONDS, traceparent or None)
        except RankerError as error:
            return error
        return None


def _with_quota(policy: CallerPolicy, caller: ForwardedCaller) -> str:
    """By what a caller's quota is kept: its name, or its connection; empty: it has none."""
    if policy.names:
        return caller.name if caller.name in policy.quotas else ""
    return caller.connection if policy.per_connection else ""

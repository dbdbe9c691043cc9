"""The one exception family of the project.

Each class carries a code of our own. At the edge it becomes a gRPC status
(`ranker.transport`), a `google.rpc.Status` (`ranker.status`) or an HTTP status,
in one place each.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """What kind of end something came to: the names and numbers of `google.rpc.Code`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


QUOTA = "quota"
"""The reason of an `OverloadedError` of one caller, which has taken what it may take."""


class RankerError(Exception):
    """Anything that went wrong and that a caller should hear about.

    Attributes:
        code: what kind of error it is.
        message: what was wrong and what was expected, for a person to read.
    """

    code: Code = Code.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def forget_frames(self) -> None:
        """Lets go of the code that raised it: its variables would be kept with the error.

        For an error that is kept, since among them is the message that was refused.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None


class InvalidRequestError(RankerError):
    """The request can never succeed as it is.

    Attributes:
        field: the request's offending field, as a path: `candidates.data`.
        description: what is wrong with it, and what was expected.
    """

    code = Code.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class NotFoundError(RankerError):
    """No such model, version or method."""

    code = Code.NOT_FOUND


class PermissionDeniedError(RankerError):
    """The server knows who calls, and this caller may not."""

    code = Code.PERMISSION_DENIED


class OverloadedError(RankerError):
    """The server can't answer in time or in memory. Retry elsewhere, or after a while.

    Attributes:
        retry_after: the seconds after which a retry has a chance; 0 in a client
            whose server did not say.
        says_when: whether the server did. gRPC's own refusal does not: the message is larger than
            the other side takes, and no retry will help.
        in_time: whether that is before the caller's deadline. If not, it should
            hear of the refusal now instead of waiting for a retry.
        reason: which limit it is, in a word, to count it under; in a client `QUOTA` or empty.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = ""

    def __init__(self, message: str, retry_after: float, *, in_time: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.says_when = True
        self.in_time = in_time


class DeadlineError(RankerError):
    """The deadline, the caller's or the server's own, passed before the answer was ready."""

    code = Code.DEADLINE_EXCEEDED


class CancelledError(RankerError):
    """The call was cancelled before the answer was ready."""

    code = Code.CANCELLED


class UnavailableError(RankerError):
    """The server is draining, or can't be reached. Safe to retry elsewhere."""

    code = Code.UNAVAILABLE


class UnimplementedError(RankerError):
    """The server has no such method, or takes no compressed messages and got one."""

    code = Code.UNIMPLEMENTED


class InternalError(RankerError):
    """A bug. The message carries an id to find in the server's log."""

    code = Code.INTERNAL


class UnauthenticatedError(RankerError):
    """The caller shows no name, and the server answers only those whose names it has been given."""

    code = Code.UNAUTHENTICATED


class ModelError(RankerError):
    """A model file that can't be loaded or exported; says which part and why."""

    code = Code.FAILED_PRECONDITION


class UnsupportedModelError(ModelError):
    """A sound model that one engine can't represent exactly; another one may."""


class ConfigError(ModelError):
    """The file that says what is served is wrong; the message has a line for each error."""


class SourceError(ModelError):
    """A place of model versions that can't be read or written; says which, and what was expected.

    Attributes:
        source: the place, as it was given.
        version: the version that it is about; empty if it is about none.
    """

    def __init__(self, source: str, version: str, message: str) -> None:
        about = f"{source}, version {version}" if version else source
        super().__init__(f"{about}: {message}")
        self.source = source
        self.version = version


class SourceUnavailableError(SourceError):
    """The place does not answer now; it may later."""


ANSWERS = frozenset(
    {Code.OK}
    | {
        kind.code
        for kind in (
            InvalidRequestError,
            NotFoundError,
            OverloadedError,
            DeadlineError,
            CancelledError,
            UnavailableError,
            UnimplementedError,
            InternalError,
            UnsupportedModelError,
        )
    }
)
"""The codes of the answers of any server; where callers are named there are two more."""

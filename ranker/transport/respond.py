"""A handler for methods that are answered at once."""

from __future__ import annotations

from collections.abc import Callable

from ranker.rpc import Call, Handler


class Respond(Handler):
    """Serves a unary method with a function from request bytes to response bytes.

    Args:
        function: called on the loop's thread, so it must be short. A
            RankerError that it raises becomes the call's status.
    """

    def __init__(self, function: Callable[[bytes], bytes]) -> None:
        self._function = function

    def message(self, call: Call, data: bytes) -> bool:
        """Answers the one request."""
        call.finish(self._function(data))
        return True

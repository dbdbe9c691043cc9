"""A ranking request before it is written, and the writers that know the server's models.

A request that is made of a data frame, or holds categories by their values, is
written for one version of a model: its columns are checked by that version's
features, its values coded by that version's categories. So the client asks the
server for the model (`GetModel`), once per version, since a version never changes.

A request that leaves the version open, or names a label, is written for the one
that answered last; if it does not suit that one, the server is asked anew before it
is refused. Where the traffic is split, one or another answers, as the unit has it.
Another version may answer it than it was written for. Then the client asks for
that one too, and if the request would have been another one for it, the answer does
not count: a category has another code there, or numbered columns are told by names.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from ranker.client.known_models import KnownModel, KnownModels, is_open
from ranker.client.ranking import Ranking
from ranker.client.request import RankOptions, checked_timeout, rank_request
from ranker.errors import DeadlineError, InvalidRequestError, UnavailableError
from ranker.frames import Features, Frame, read_frame
from ranker.v1 import ranking_pb2


class Question:
    """A ranking request before it is written.

    Args:
        features: as for `RankerClient.rank`.
        options: the request's.

    Attributes:
        model: the model's name, as the request has it.
        version: its version, or a label's, likewise.
        unit: for whom is ranked, likewise.
        needs_model: whether it can be written for a known model only.

    Raises:
        InvalidRequestError: a data frame can't be read.
    """

    def __init__(self, features: Features, options: RankOptions) -> None:
        frame = read_frame(features)
        context = options.get("context") or {}
        self._features: Features | Frame = features if frame is None else frame
        self._options = options
        self.model = options.get("model", "")
        self.version = options.get("model_version", "")
        self.unit = options.get("unit", "")
        named_anyway = frame is None or (frame.numbered and options.get("feature_names"))
        has_labels = frame is not None and bool(frame.labels())
        has_texts = any(isinstance(value, str) for value in context.values())
        self.needs_model = has_labels or has_texts or not named_anyway

    def written(self, known: KnownModel | None) -> bytes:
        """The request as it travels.

        Args:
            known: the model that it is for; None if it needs none.

        Raises:
            InvalidRequestError: it can't be sent, or does not suit the model.
        """
        return rank_request(self._features, known=known, **self._options)

    def written_to(self, known: KnownModel) -> bytes:
        """The same, but so that this version answers and no other."""
        options = self._options.copy()
        options["model"], options["model_version"] = known.name, known.version
        return rank_request(self._features, known=known, **options)

    def same_for(self, one: KnownModel, other: KnownModel) -> bool:
        """Whether it is the same request for both models.

        Raises:
            InvalidRequestError: it does not suit the other model.
        """
        if one.reads_as(other):
            return True  # as after most changes: no need to write it twice
        return self.written(one) == self.written(other)


class Writer:
    """Writes questions, and asks the server for what it needs to know. Thread-safe.

    Args:
        get_model: describes a model by name, version, unit and timeout, as
            `RankerClient.get_model` does.
    """

    def __init__(self, get_model: Callable[[str, str, str, float], ranking_pb2.Model]) -> None:
        self._get_model = get_model
        self._models = KnownModels()
        self._asking = threading.Lock()

    def write(self, question: Question, deadline: float) -> tuple[bytes, KnownModel | None]:
        """A request as it travels, and the model that it is written for, if for one.

        Args:
            question: the request.
            deadline: when there must be an answer, in `time.monotonic`'s seconds.

        Raises:
            RankerError: it can't be sent, does not suit the model, or the server
                does not say what the model is.
        """
        if not question.needs_model:
            return question.written(None), None
        known = self._models.find(question.model, question.version)
        message = _written_for(question, known)
        if message is None:
            known = self._ask(question.model, question.version, question.unit, deadline, known)
            message = question.written(known)
        return message, known

    def asks(self, known: KnownModel | None, model: str, version: str) -> bool:
        """Whether `other` asks the server, and so takes time.

        Args:
            known: the model that a request was written for, if for one.
            model: the name of the one that ranked.
            version: its version.
        """
        if known is None or (known.name, known.version) == (model, version):
            return False
        return self._models.find(model, version) is None

    def other(
        self, question: Question, known: KnownModel | None, ranking: Ranking, deadline: float
    ) -> KnownModel | None:
        """The model that ranked, if the request would have been another one for it.

        Args:
            question: the request.
            known: the model that it was written for, if for one.
            ranking: the answer; it counts if this returns None.
            deadline: as for `write`.

        Raises:
            RankerError: the request does not suit the model that ranked, or the server
                does not say what that is.
        """
        if known is None or (known.name, known.version) == (ranking.model, ranking.version):
            return None
        other = self._models.find(ranking.model, ranking.version)
        if other is None:
            other = self._ask(ranking.model, ranking.version, "", deadline, None)
        self._models.answers(question.model, question.version, other)
        return None if question.same_for(known, other) else other

    def _ask(
        self, model: str, version: str, unit: str, deadline: float, had: KnownModel | None
    ) -> KnownModel:
        """Has the server describe a model, unless another thread has while this one waited."""
        if not self._asking.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineError("the deadline passed while another call asked for the model")
        try:
            found = self._models.find(model, version)
            if found is not None and found is not had:
                return found
            left = checked_timeout(deadline - time.monotonic())
            return self._models.add(model, version, self._get_model(model, version, unit, left))
        finally:
            self._asking.release()


class AsyncWriter:
    """`Writer` for asyncio.

    Args:
        get_model: as for `Writer`, but to be awaited.
    """

    def __init__(
        self, get_model: Callable[[str, str, str, float], Awaitable[ranking_pb2.Model]]
    ) -> None:
        self._get_model = get_model
        self._models = KnownModels()
        self._asking = asyncio.Lock()

    async def write(self, question: Question, deadline: float) -> tuple[bytes, KnownModel | None]:
        """As `Writer.write`."""
        if not question.needs_model:
            return question.written(None), None
        known = self._models.find(question.model, question.version)
        message = _written_for(question, known)
        if message is None:
            known = await self._ask(
                question.model, question.version, question.unit, deadline, known
            )
            message = question.written(known)
        return message, known

    async def other(
        self, question: Question, known: KnownModel | None, ranking: Ranking, deadline: float
    ) -> KnownModel | None:
        """As `Writer.other`."""
        if known is None or (known.name, known.version) == (ranking.model, ranking.version):
            return None
        other = self._models.find(ranking.model, ranking.version)
        if other is None:
            other = await self._ask(ranking.model, ranking.version, "", deadline, None)
        self._models.answers(question.model, question.version, other)
        return None if question.same_for(known, other) else other

    async def _ask(
        self, model: str, version: str, unit: str, deadline: float, had: KnownModel | None
    ) -> KnownModel:
        """Has the server describe a model, unless another task has while this one waited."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._asking:
                found = self._models.find(model, version)
                if found is not None and found is not had:
                    return found
                left = checked_timeout(deadline - time.monotonic())
                described = await self._get_model(model, version, unit, left)
                return self._models.add(model, version, described)
        except TimeoutError:
            raise DeadlineError(
                "the deadline passed before the server described the model"
            ) from None


def changed(known: KnownModel | None, ranking: Ranking) -> UnavailableError:
    """What a stream says of an answer that does not count."""
    expected = f"{known.name}@{known.version}" if known else "another"
    return UnavailableError(
        f"{ranking.model}@{ranking.version} answered, but the request was written for {expected}, "
        f"which reads it otherwise; submit it again with model_version={ranking.version!r}"
    )


def _written_for(question: Question, known: KnownModel | None) -> bytes | None:
    """The question written for a model that is known already; None if it is to be asked for."""
    if known is None:
        return None
    try:
        return question.written(known)
    except InvalidRequestError:
        if not is_open(question.model, question.version):
            raise
        return None  # by now another version may answer

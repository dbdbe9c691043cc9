"""The codes of categories in a ranking log: do they mean the same to another model?"""

from __future__ import annotations

from ranker.errors import InvalidRequestError
from ranker.model import Model
from ranker.ranking_log.reader import LoggedList


class Codes:
    """What codes stand for to a model, compared with what they stood for where lists were ranked.

    Requests hold codes, and a log holds requests. Two models that were trained on other data may
    have other categories, or the same in another order: a code of one is another category of the
    other.

    Args:
        model: is to score the lists.

    Attributes:
        unverified: features that lists have, and of which the model or the one that ranked them
            knows no categories: whether the codes mean the same can't be told.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known = {name: each.digest for name, each in model.categories.items()}
        self.unverified: set[str] = set()

    def check(self, logged: LoggedList) -> None:
        """Raises InvalidRequestError if a code of the list is another category to the model."""
        record = logged.record
        if record.model_sha256 == self._model.digest:
            return
        for name in sorted(self._known.keys() | logged.categories.keys()):
            ours, theirs = self._known.get(name), logged.categories.get(name)
            if ours == theirs or not self._has(logged, name):
                continue
            if ours is None or theirs is None:
                self.unverified.add(name)
                continue
            raise InvalidRequestError(
                f"feature {name!r}",
                f"its codes stand for other categories, or in another order, for "
                f"{self._model.name}@{self._model.version} than for {record.model}@"
                f"{record.model_version}, which ranked {logged}; compare the models on a table "
                "with the categories as text",
            )

    def _has(self, logged: LoggedList, name: str) -> bool:
        """Whether the list has values of a feature, which the model takes."""
        columns = {*logged.columns, *logged.request.context.feature_names}
        return (
            (not columns or name in columns)
            and (not self._model.feature_names or name in self._model.feature_names)
            and name not in logged.record.excluded_features
        )

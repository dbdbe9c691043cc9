"""The models that a server holds, by name and version."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.errors import ModelError, NotFoundError
from ranker.model import Model


class Catalogue:
    """Finds the model that a request asks for.

    Args:
        models: at least one; the first is the default. Of several versions of
            one name, the first is that name's default.

    Raises:
        ModelError: no models, or two with the same name and version.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        if not models:
            raise ModelError("no model to serve")
        self.models = tuple(models)
        self._index: dict[tuple[str, str], int] = {("", ""): 0}
        for index, model in enumerate(models):
            if (model.name, model.version) in self._index:
                raise ModelError(f"two models are named {model.name!r}, version {model.version!r}")
            self._index[model.name, model.version] = index
            self._index.setdefault((model.name, ""), index)
        self._index.setdefault(("", models[0].version), 0)

    def find(self, name: str, version: str) -> int:
        """The index in `models`. An empty name or version selects the default.

        Raises:
            NotFoundError: the server has no such model, or not in that version.
        """
        index = self._index.get((name, version))
        if index is None:
            held = ", ".join(f"{model.name}@{model.version}" for model in self.models)
            wanted = f"{name or '(default)'}@{version}" if version else name
            raise NotFoundError(f"no model {wanted}; this server holds {held}")
        return index

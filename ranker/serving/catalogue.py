"""The models that a server serves, by name and version."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.errors import ModelError, NotFoundError
from ranker.serving.served_model import ServedModel


class Catalogue:
    """Finds the model that a request asks for.

    Args:
        models: at least one; the first is the default. Of several versions of
            one name, the first is that name's default.

    Attributes:
        models: likewise.
        count: how many these are.

    Raises:
        ModelError: no models, or two with the same name and version.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        if not models:
            raise ModelError("no model to serve")
        self.models = tuple(models)
        self.count = len(self.models)
        self._by_name: dict[tuple[str, str], ServedModel] = {("", ""): models[0]}
        for model in models:
            if (model.name, model.version) in self._by_name:
                raise ModelError(
                    f"two models are {model}: export one of them with another --name or --version"
                )
            self._by_name[model.name, model.version] = model
            self._by_name.setdefault((model.name, ""), model)
        self._by_name.setdefault(("", models[0].version), models[0])

    def find(self, name: str, version: str) -> ServedModel:
        """The model of that name and version; an empty one selects the default.

        Raises:
            NotFoundError: the server has no such model, or not in that version.
        """
        try:
            return self._by_name[name, version]
        except KeyError:
            held = ", ".join(map(str, self.models))
            wanted = f"{name or '(default)'}@{version}" if version else name
            raise NotFoundError(f"no model {wanted}; this server holds {held}") from None

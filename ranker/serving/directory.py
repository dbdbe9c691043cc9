"""What the server tells of its models: `GetModel` and `ListModels`."""

from __future__ import annotations

from ranker.model import Model
from ranker.serving.catalogue import Catalogue
from ranker.serving.wire import read_message
from ranker.v1 import ranking_pb2 as pb


class Directory:
    """Describes the models of a catalogue.

    The answers are written beforehand, since a model may have a million categories.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        models = [
            describe(served.model, is_default=index == 0)
            for index, served in enumerate(catalogue.models)
        ]
        self._described = {
            served: pb.GetModelResponse(model=model).SerializeToString()
            for served, model in zip(catalogue.models, models, strict=True)
        }
        for model in models:
            model.ClearField("categories")
        self._listed = pb.ListModelsResponse(models=models).SerializeToString()

    def get_model(self, data: bytes) -> bytes:
        """One model's description."""
        request = read_message(pb.GetModelRequest, data)
        return self._described[self._catalogue.find(request.model, request.model_version)]

    def list_models(self, data: bytes) -> bytes:
        """Every model's description, but for its categories; the default first."""
        read_message(pb.ListModelsRequest, data)
        return self._listed


def describe(model: Model, *, is_default: bool) -> pb.Model:
    """A model as its callers need to know it."""
    metadata = model.metadata
    return pb.Model(
        name=model.name,
        version=model.version,
        num_features=model.features.num_features,
        feature_names=model.features.names,
        required_feature_names=model.features.required,
        output=metadata.output,
        objective=metadata.objective,
        num_trees=metadata.trees,
        max_depth=metadata.depth,
        engine=model.engine_name,
        engine_reason=model.engine_reason,
        is_default=is_default,
        categories=[
            pb.FeatureCategories(feature=feature, texts=known.texts, integers=known.integers)
            for feature, known in sorted(metadata.categories.items())
        ],
    )

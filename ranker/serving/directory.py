"""What the server tells of its models: `GetModel` and `ListModels`."""

from __future__ import annotations

from ranker.model import Model
from ranker.serving.catalogue import Catalogue
from ranker.serving.wire import read_message
from ranker.v1 import ranking_pb2 as pb


class Directory:
    """Describes the models of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def get_model(self, data: bytes) -> bytes:
        """One model's description."""
        request = read_message(pb.GetModelRequest, data)
        served = self._catalogue.find(request.model, request.model_version)
        is_default = served is self._catalogue.models[0]
        response = pb.GetModelResponse(model=describe(served.model, is_default=is_default))
        return response.SerializeToString()

    def list_models(self, data: bytes) -> bytes:
        """Every model's description, the default first."""
        read_message(pb.ListModelsRequest, data)
        models = [
            describe(served.model, is_default=index == 0)
            for index, served in enumerate(self._catalogue.models)
        ]
        return pb.ListModelsResponse(models=models).SerializeToString()


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
    )

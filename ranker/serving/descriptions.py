"""What the server tells of its models: `GetModel` and `ListModels`."""

from __future__ import annotations

from ranker.serving.generation import Generation
from ranker.serving.served_model import ServedModel
from ranker.serving.unserved import Unserved
from ranker.serving.wire import read_message
from ranker.v1 import ranking_pb2 as pb


class Descriptions:
    """Describes the models of a generation.

    The answers are written beforehand, since a model may have a million categories.

    Args:
        generation: what is served.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        models = [describe(generation, served) for served in generation.models]
        self._described = {
            served: pb.GetModelResponse(
                model=model, generation=generation.number
            ).SerializeToString()
            for served, model in zip(generation.models, models, strict=True)
        }
        for model in models:
            model.ClearField("categories")
        self._models = models
        self._listed = self._list(Unserved())

    def tell(self, unserved: Unserved) -> None:
        """Has the list say what is wanted and not served."""
        self._listed = self._list(unserved)

    def get_model(self, data: bytes) -> bytes:
        """One model's description."""
        request = read_message(pb.GetModelRequest, data)
        arm = self._generation.find(request.model, request.model_version, request.unit or None)
        return self._described[arm.served]

    def list_models(self, data: bytes) -> bytes:
        """Every model's description, but for its categories; the default first."""
        read_message(pb.ListModelsRequest, data)
        return self._listed

    def _list(self, unserved: Unserved) -> bytes:
        response = pb.ListModelsResponse(
            models=[*self._models, *unserved.models],
            generation=self._generation.number,
            failure=unserved.failure,
        )
        return response.SerializeToString()


def describe(generation: Generation, served: ServedModel) -> pb.Model:
    """A model as its callers need to know it."""
    model = served.model
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
        is_default=served is generation.models[0],
        categories=[
            pb.FeatureCategories(feature=feature, texts=known.texts, integers=known.integers)
            for feature, known in sorted(metadata.categories.items())
        ],
        labels=generation.labels(served),
        traffic_percent=generation.share(served),
        state=pb.MODEL_STATE_AVAILABLE,
        state_reason=generation.held(served),
        sha256=model.digest,
        shadow_percent=generation.shadow_share(served),
        explainable=not model.unexplained,
        has_reference=metadata.reference is not None,
    )

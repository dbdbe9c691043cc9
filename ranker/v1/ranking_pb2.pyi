from google.protobuf import any_pb2 as _any_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_AVAILABLE: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_FLOAT32: DataType
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_AVAILABLE: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_FAILED: ModelState

class Matrix(_message.Message):
    __slots__ = ("rows", "columns", "data_type", "data")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    data_type: DataType
    data: bytes
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., data_type: _Optional[_Union[DataType, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("feature_names", "values")
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, feature_names: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("request_id", "model", "model_version", "candidates", "feature_names", "context", "candidate_ids", "top_k", "deadline_ms", "unit", "explain")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    model_version: str
    candidates: Matrix
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    context: Context
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    deadline_ms: int
    unit: str
    explain: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., candidates: _Optional[_Union[Matrix, _Mapping]] = ..., feature_names: _Optional[_Iterable[str]] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., unit: _Optional[str] = ..., explain: _Optional[int] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("request_id", "status", "model", "model_version", "indices", "scores", "candidate_ids", "timing", "arm", "explanations", "explained_feature_names")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: Status
    model: str
    model_version: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    timing: ServerTiming
    arm: str
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    explained_feature_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[float]] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., timing: _Optional[_Union[ServerTiming, _Mapping]] = ..., arm: _Optional[str] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., explained_feature_names: _Optional[_Iterable[str]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("bias", "contributions")
    BIAS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    bias: float
    contributions: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, bias: _Optional[float] = ..., contributions: _Optional[_Iterable[float]] = ...) -> None: ...

class ServerTiming(_message.Message):
    __slots__ = ("queue_us", "scoring_us", "total_us")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    SCORING_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    scoring_us: int
    total_us: int
    def __init__(self, queue_us: _Optional[int] = ..., scoring_us: _Optional[int] = ..., total_us: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "model_version", "unit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    unit: str
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "generation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    model: Model
    generation: int
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "generation", "failure")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    generation: int
    failure: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., generation: _Optional[int] = ..., failure: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "num_features", "feature_names", "required_feature_names", "output", "objective", "num_trees", "max_depth", "engine", "engine_reason", "is_default", "categories", "labels", "traffic_percent", "state", "state_reason", "sha256", "shadow_percent", "explainable", "has_reference")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUM_FEATURES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    NUM_TREES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_REASON_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SHADOW_PERCENT_FIELD_NUMBER: _ClassVar[int]
    EXPLAINABLE_FIELD_NUMBER: _ClassVar[int]
    HAS_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    num_features: int
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    required_feature_names: _containers.RepeatedScalarFieldContainer[str]
    output: str
    objective: str
    num_trees: int
    max_depth: int
    engine: str
    engine_reason: str
    is_default: bool
    categories: _containers.RepeatedCompositeFieldContainer[FeatureCategories]
    labels: _containers.RepeatedScalarFieldContainer[str]
    traffic_percent: float
    state: ModelState
    state_reason: str
    sha256: str
    shadow_percent: float
    explainable: bool
    has_reference: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., num_features: _Optional[int] = ..., feature_names: _Optional[_Iterable[str]] = ..., required_feature_names: _Optional[_Iterable[str]] = ..., output: _Optional[str] = ..., objective: _Optional[str] = ..., num_trees: _Optional[int] = ..., max_depth: _Optional[int] = ..., engine: _Optional[str] = ..., engine_reason: _Optional[str] = ..., is_default: _Optional[bool] = ..., categories: _Optional[_Iterable[_Union[FeatureCategories, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., traffic_percent: _Optional[float] = ..., state: _Optional[_Union[ModelState, str]] = ..., state_reason: _Optional[str] = ..., sha256: _Optional[str] = ..., shadow_percent: _Optional[float] = ..., explainable: _Optional[bool] = ..., has_reference: _Optional[bool] = ...) -> None: ...

class FeatureCategories(_message.Message):
    __slots__ = ("feature", "texts", "integers")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    feature: int
    texts: _containers.RepeatedScalarFieldContainer[str]
    integers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, feature: _Optional[int] = ..., texts: _Optional[_Iterable[str]] = ..., integers: _Optional[_Iterable[int]] = ...) -> None: ...

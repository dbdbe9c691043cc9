from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RankingRecord(_message.Message):
    __slots__ = ("request", "response", "model", "model_version", "model_sha256", "arm", "engine", "time_unix_nanos", "trace_id", "sample_rate", "sampled_by_unit", "excluded_features", "model_feature_names", "model_categories_sha256")
    class ModelCategoriesSha256Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_BY_UNIT_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    MODEL_CATEGORIES_SHA256_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    response: bytes
    model: str
    model_version: str
    model_sha256: str
    arm: str
    engine: str
    time_unix_nanos: int
    trace_id: str
    sample_rate: float
    sampled_by_unit: bool
    excluded_features: _containers.RepeatedScalarFieldContainer[str]
    model_feature_names: _containers.RepeatedScalarFieldContainer[str]
    model_categories_sha256: _containers.ScalarMap[str, str]
    def __init__(self, request: _Optional[bytes] = ..., response: _Optional[bytes] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_sha256: _Optional[str] = ..., arm: _Optional[str] = ..., engine: _Optional[str] = ..., time_unix_nanos: _Optional[int] = ..., trace_id: _Optional[str] = ..., sample_rate: _Optional[float] = ..., sampled_by_unit: _Optional[bool] = ..., excluded_features: _Optional[_Iterable[str]] = ..., model_feature_names: _Optional[_Iterable[str]] = ..., model_categories_sha256: _Optional[_Mapping[str, str]] = ...) -> None: ...

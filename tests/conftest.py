"""For all tests: onnxruntime's telemetry is off, also where one imports it by itself."""

import ranker.engine.runtime  # noqa: F401

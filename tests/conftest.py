"""For all tests: onnxruntime's telemetry is off, also where one imports it by itself.

And hypothesis times no example: what else runs on the machine is no fault of the code's.
"""

from hypothesis import settings

import ranker.engine.runtime  # noqa: F401

settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

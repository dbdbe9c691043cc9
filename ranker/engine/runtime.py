"""onnxruntime without its telemetry: import it from here.

Since 1.32 the wheels for Linux have telemetry built in and switched on. The
import alone starts a thread, makes a device id and a database under ~/.cache,
and looks up Microsoft's host; a ranking server writes no files and calls nobody.
The variable has to be set before the import. `disable_telemetry_events()` comes
too late: the id has been made by then. Who wants telemetry sets the variable to 0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as onnxruntime

"""The engines' own telemetry is switched off here: nothing is reported to anyone.

What these packages do when they are imported as they come (onnxruntime 1.32 on Linux, openvino 2026.4): the first
writes a device identifier below ``~/.cache/Microsoft`` and may upload events, the second writes a client identifier
into ``~/intel`` and sends an event. A product that promises privacy must not, so every import of an engine in this
package comes after :func:`silence_engines`.
"""

from __future__ import annotations

import os
import sys
from typing import cast

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
_OPENVINO_REPORTER = "openvino_telemetry"
RAY_SWITCH = "RAY_USAGE_STATS_ENABLED"


def silence_engines() -> None:
    """Turn off the telemetry of ONNX Runtime and OpenVINO for this process and its children.

    Call it before either is imported: both report while they are being imported, and afterwards it is too late. What
    the user has decided stands: a value of ``ORT_DISABLE_TELEMETRY`` in the environment is kept, and so is an
    ``openvino_telemetry`` that the application has imported itself.
    """
    os.environ.setdefault(ORT_SWITCH, "1")
    # None in this table makes the import fail, and OpenVINO then uses the stub that it has for that case.
    cast(dict[str, object], sys.modules).setdefault(_OPENVINO_REPORTER, None)


def silence_ray() -> None:
    """Turn off Ray's reports about its use for the clusters that this process starts.

    Call it before Ray is imported. A value of ``RAY_USAGE_STATS_ENABLED`` in the environment stands. A cluster that
    runs already reports or not as it was started.
    """
    os.environ.setdefault(RAY_SWITCH, "0")

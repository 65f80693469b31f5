"""What p3m-edge calls of coremltools, with the interpreter at work, or ONNX Runtime if the package has ``model.onnx``.

A file named after a compute unit (``CPU_AND_NE.onnx``) is what that unit computes instead; ``CPU_AND_GPU.no-plan``: for
that one there is no compute plan.
"""

from enum import Enum

ComputeUnit = Enum("ComputeUnit", "ALL CPU_AND_GPU CPU_ONLY CPU_AND_NE")

from . import models as models  # noqa: E402 - it needs the units

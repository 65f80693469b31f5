"""With this folder on its path, Python finds a driver of NVIDIA's, and stand-ins for its packages beside it.

They have the shapes of cuda-bindings 13 and of TensorRT 10.16 or 11.4, and compute with onnx's evaluator in the host's
memory. ``STAND_IN`` (JSON) says what is here, see ``DEFAULTS``; ``STAND_IN_LOG`` is a file that gets every call.
"""

import ctypes
import json
import os
from pathlib import Path

DEFAULTS = {
    "tensorrt": "10.16.1.11",
    "driver": 13000,  # the CUDA that it runs; 0: cuInit fails
    "runtime": 13050,
    "gpus": [["NVIDIA L4", "8.9", 24_000_000_000]],
    "free": 20_000_000_000,
    "fails": [],  # names of calls
}
SETTINGS = DEFAULTS | json.loads(os.environ.get("STAND_IN", "{}"))
_load = ctypes.CDLL


def note(call, *arguments):
    """Write down a call."""
    if path := os.environ.get("STAND_IN_LOG"):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([call, *arguments]) + "\n")


class Driver:
    """``libcuda.so.1``, as ctypes gives it."""

    def cuInit(self, flags):
        note("cuInit", flags)
        return 0 if SETTINGS["driver"] else 999

    def cuGetErrorString(self, code, text):
        text._obj.value = b"unknown error"
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = SETTINGS["driver"]
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(SETTINGS["gpus"])
        return 0

    def cuDeviceGet(self, handle, index):
        handle._obj.value = index
        return 0

    def cuDeviceGetName(self, name, size, handle):
        name._obj.value = SETTINGS["gpus"][handle][0].encode()
        return 0

    def cuDeviceTotalMem_v2(self, memory, handle):
        memory._obj.value = SETTINGS["gpus"][handle][2]
        return 0

    def cuDeviceGetAttribute(self, value, attribute, handle):
        major, minor = SETTINGS["gpus"][handle][1].split(".")
        value._obj.value = int({75: major, 76: minor}[attribute])
        return 0


def _find(name, *arguments, **more):
    return Driver() if name in ("libcuda.so.1", "nvcuda.dll") else _load(name, *arguments, **more)


vars(ctypes)["CDLL"] = _find

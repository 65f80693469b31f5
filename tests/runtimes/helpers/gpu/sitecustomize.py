"""A machine with a GPU, as far as its driver is asked through ctypes: where this folder is on the path.

``GPU_CAPABILITY`` is the compute capability (9.0); ``GPU_ERROR`` is what ``cuInit`` gives.
"""

import ctypes
import os
from typing import Any


class Driver:
    """The functions of the driver that tell of a GPU; all of them succeed."""

    def __init__(self, name: str) -> None:
        major, minor = os.environ.get("GPU_CAPABILITY", "9.0").split(".")
        self._attributes = {75: int(major), 76: int(minor)}

    def cuInit(self, flags: int) -> int:  # noqa: N802 - as it is called
        return int(os.environ.get("GPU_ERROR", "0"))

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13010
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA Test GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = self._attributes[attribute]
        return 0


class Management:
    """The library that knows the driver's version."""

    def __init__(self, name: str) -> None:
        pass

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"580.65.06"
        return 0


_LIBRARIES = {"libcuda.so.1": Driver, "nvcuda.dll": Driver, "libnvidia-ml.so.1": Management, "nvml.dll": Management}
_real = ctypes.CDLL


def _load(name: Any, *arguments: Any, **options: Any) -> Any:
    return _LIBRARIES[name](name) if name in _LIBRARIES else _real(name, *arguments, **options)


ctypes.CDLL = _load  # type: ignore[misc, assignment]

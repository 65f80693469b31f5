"""CUDA for an engine on NVIDIA's GPUs, without PyTorch: which GPUs are here, memory, a stream, copies and events.

A driver, GPU or package that is not here is a ``MissingError``. The driver is asked through ctypes, which cannot crash
and needs no package; all else goes through ``cuda-bindings`` (12.8 or newer) and CUDA's runtime interface, which uses
each GPU's primary context and is the same in CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.runtimes.contract import import_package

DEVICE = "cuda"
"""The name of the first GPU; ``cuda:1`` is the second."""
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NAME = 256  # bytes
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_OUT_OF_MEMORY, _OLD_DRIVER = 2, 35  # cudaError_t
_RELEASES = {12: "525", 13: "580"}
"""The oldest release of NVIDIA's driver for each CUDA."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: its place in CUDA's order, name, compute capability (``8.9``) and memory in bytes."""

    index: int
    name: str
    compute_capability: str
    memory: int


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver: the newest CUDA that it runs (``12.4``), its release (``550.54``; None: not told), the GPUs."""

    cuda: str
    release: str | None
    gpus: tuple[Gpu, ...]


def driver() -> Driver:
    """The driver and the GPUs of this machine; there is at least one."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise MissingError(
            f"no CUDA driver: {_LIBRARY} is not on this machine",
            hint="TensorRT engines run on NVIDIA's GPUs, with their driver; p3m-edge doctor says what runs here",
        ) from None
    code = library.cuInit(0)
    if code == _NO_DEVICE:
        raise MissingError("the CUDA driver finds no GPU", hint="p3m-edge doctor says what can run here")
    if code:
        raise MissingError(
            f"the CUDA driver does not start: {_driver_error(library, code)}",
            hint="the driver and its kernel module may be of different versions, or the GPU is kept from this process",
        )

    def ask(name: str, answer: Any, *arguments: Any) -> Any:
        """Have a function of the driver fill in its first argument."""
        if code := getattr(library, name)(ctypes.byref(answer), *arguments):
            raise MissingError(f"the CUDA driver does not answer: {_driver_error(library, code)}")
        return answer.value

    def gpu(index: int) -> Gpu:
        handle = ask("cuDeviceGet", ctypes.c_int(), index)
        name = ask("cuDeviceGetName", ctypes.create_string_buffer(_NAME), _NAME, handle)
        major, minor = (ask("cuDeviceGetAttribute", ctypes.c_int(), which, handle) for which in (_MAJOR, _MINOR))
        memory = ask("cuDeviceTotalMem_v2", ctypes.c_size_t(), handle)
        return Gpu(index, name.decode(errors="replace"), f"{major}.{minor}", memory)

    version = _release(ask("cuDriverGetVersion", ctypes.c_int()))
    count = ask("cuDeviceGetCount", ctypes.c_int())
    if not count:
        raise MissingError("the CUDA driver finds no GPU", hint="CUDA_VISIBLE_DEVICES may hide it")
    return Driver(version, _driver_release(), tuple(map(gpu, range(count))))


def find(index: int) -> Gpu:
    """The GPU of that number."""
    gpus = driver().gpus
    if index >= len(gpus):
        names = ", ".join(f"{DEVICE}:{gpu.index} ({gpu.name})" for gpu in gpus)
        raise MissingError(f"there is no GPU {DEVICE}:{index}", hint=f"there is {names}")
    return gpus[index]


def require() -> ModuleType:
    """The module ``cuda.bindings.runtime``."""
    return import_package("cuda.bindings.runtime", "tensorrt", name="cuda-bindings")


@dataclass(frozen=True)
class Memory:
    """Bytes on the GPU, at an address, and as many on the host, ``[size]``, pinned so that the GPU copies by itself."""

    address: int
    pinned: NDArray[np.uint8]


class Device:
    """A GPU at work: memory on it and on the host, one stream, events. :meth:`close` frees all, the last made first.

    Attributes
    ----------
    allocated
        Bytes of its memory that are held.
    stream
        The stream's handle, as other libraries take it.

    Raises
    ------
    MissingError
        ``cuda-bindings`` is not here, or needs a newer driver.
    P3MEdgeError
        The GPU cannot be used.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.allocated = 0
        self._cuda = require()
        self._held = ExitStack()
        self._call("cudaSetDevice", gpu.index)
        self._stream = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self._held.callback(self._free, "cudaStreamDestroy", self._stream)
        self.stream = int(self._stream)

    def reserve(self, size: int) -> Memory:
        """New memory of ``size`` bytes on the GPU and on the host; the error says how much there is."""
        address = int(self._call("cudaMalloc", size, needs=size))
        self.allocated += size
        self._held.callback(self._free, "cudaFree", address)
        host = int(self._call("cudaMallocHost", size))
        self._held.callback(self._free, "cudaFreeHost", host)
        return Memory(address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host)))

    def copy_in(self, address: int, array: Array) -> None:
        """Begin to copy an array of pinned memory to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._stream)

    def copy_out(self, array: Array, address: int) -> None:
        """Begin to copy memory of the GPU into an array of pinned memory."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._stream)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around what is begun in the stream: this thread's GPU is this one, and all is done at the end, or dropped."""
        self._call("cudaSetDevice", self.gpu.index)
        try:
            yield
            self._call("cudaStreamSynchronize", self._stream)
        except BaseException:  # memory that is still being copied must not be touched again
            self.settle()
            raise

    def settle(self) -> None:
        """Wait until nothing is at work, whatever came of it."""
        self._free("cudaSetDevice", self.gpu.index)
        self._free("cudaStreamSynchronize", self._stream)

    def event(self) -> object:
        """A new event, to be put into the stream."""
        event = self._call("cudaEventCreate")
        self._held.callback(self._free, "cudaEventDestroy", event)
        return event

    def record(self, event: object) -> None:
        """Put the event into the stream."""
        self._call("cudaEventRecord", event, self._stream)

    def elapsed(self, first: object, last: object) -> float:
        """Milliseconds between two events that the GPU has passed."""
        return float(self._call("cudaEventElapsedTime", first, last))

    def close(self) -> None:
        """Wait for the stream, and free everything."""
        self.settle()
        self._held.close()

    def out_of_memory(self, needs: int, what: str = "") -> P3MEdgeError:
        """The error where the GPU has no memory left; ``needs`` is what was asked for, in bytes."""
        free, total = self._call("cudaMemGetInfo")
        wanted, left, all_of_it, held = (f"{int(size) / 1e6:.1f} MB" for size in (needs, free, total, self.allocated))
        return P3MEdgeError(
            f"{self.gpu.name} is out of memory: {what}{wanted} are needed, {left} of {all_of_it} are free, and this "
            f"engine's tensors hold {held}",
            hint="close what else uses the GPU, take a smaller size, or another GPU: cuda:1",
        )

    def _free(self, name: str, *arguments: object) -> None:
        """A call during the clean-up, whose errors are passed over: the one that led here is reported."""
        getattr(self._cuda, name)(*arguments)

    def _call(self, name: str, *arguments: object, needs: int = 0) -> Any:
        """Call a function of the runtime, and return its values; a status other than success is an error."""
        status, *values = getattr(self._cuda, name)(*arguments)
        code = int(status)
        if code == 0:
            return values[0] if len(values) == 1 else tuple(values)
        if code == _OLD_DRIVER:
            raise self._old_driver()
        if code == _OUT_OF_MEMORY and needs:
            raise self.out_of_memory(needs)
        _, text = self._cuda.cudaGetErrorString(status)
        raise P3MEdgeError(f"{name} failed on {self.gpu.name}: {text.decode(errors='replace')} (CUDA error {code})")

    def _old_driver(self) -> MissingError:
        _, wanted = self._cuda.cudaRuntimeGetVersion()
        _, found = self._cuda.cudaDriverGetVersion()
        major = int(wanted) // 1000
        release = f" (release {_RELEASES[major]} or newer)" if major in _RELEASES else ""
        return MissingError(
            f"the driver is too old: cuda-bindings need one for CUDA {major}.0{release}, "
            f"and it is one for CUDA {_release(int(found))}",
            hint=f'update NVIDIA\'s driver, or pip install "cuda-bindings<{major}"',
        )


def _driver_error(library: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return f"{text.value.decode(errors='replace')} ({code})" if text.value else f"error {code}"


def _driver_release() -> str | None:
    """Of the kernel module, on Linux."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _release(version: int) -> str:
    """13050 -> 13.5."""
    return f"{version // 1000}.{version % 1000 // 10}"

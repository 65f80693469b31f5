"""CUDA's runtime: what is ordered in a stream happens when somebody waits for it; the GPU's addresses are no host's.

Every function gives a status and its values, as in cuda-bindings 12.8 and 13.
"""

import ctypes
import importlib
import itertools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

SETTINGS, note = (getattr(importlib.import_module("sitecustomize"), name) for name in ("SETTINGS", "note"))

cudaStreamNonBlocking = 1
cudaError_t = IntEnum("cudaError_t", {
    "cudaSuccess": 0, "cudaErrorInvalidValue": 1, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35,
    "cudaErrorInvalidDevice": 101, "cudaErrorIllegalAddress": 700,
})  # fmt: skip
cudaMemcpyKind = IntEnum("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
_OK, _INVALID = cudaError_t.cudaSuccess, cudaError_t.cudaErrorInvalidValue

DEVICE_MEMORY: dict[int, bytearray] = {}
_HOST_MEMORY: dict[int, Any] = {}
_addresses = itertools.count(0x7F00_0000_0000, 0x1000_0000)
_handles = itertools.count(11)


class _Handle:
    def __init__(self):
        self.number = next(_handles)

    def __int__(self):
        return self.number


class cudaStream_t(_Handle):
    """A stream: what it still has to do."""

    def __init__(self):
        super().__init__()
        self.work: list[Callable[[], None]] = []
        STREAMS[self.number] = self


class cudaEvent_t(_Handle):
    """An event; ``at`` is how much the stream had done when it came by."""

    at = None


STREAMS: dict[int, cudaStream_t] = {}


def _refused(name, *arguments):
    note(name, *arguments)
    if SETTINGS["driver"] // 1000 < SETTINGS["runtime"] // 1000:
        return cudaError_t.cudaErrorInsufficientDriver
    return _INVALID if name in SETTINGS["fails"] else _OK


def cudaSetDevice(device):
    if status := _refused("cudaSetDevice", device):
        return (status,)
    return (_OK if device < len(SETTINGS["gpus"]) else cudaError_t.cudaErrorInvalidDevice,)


def cudaRuntimeGetVersion():
    return _OK, SETTINGS["runtime"]


def cudaDriverGetVersion():
    return _OK, SETTINGS["driver"]


def cudaGetErrorString(status):
    return _OK, cudaError_t(status).name.encode()


def cudaMemGetInfo():
    return _OK, SETTINGS["free"] - sum(map(len, DEVICE_MEMORY.values())), SETTINGS["gpus"][0][2]


def cudaMalloc(size):
    if status := _refused("cudaMalloc", size):
        return status, None
    if size > cudaMemGetInfo()[1]:
        return cudaError_t.cudaErrorMemoryAllocation, None
    address = next(_addresses)
    DEVICE_MEMORY[address] = bytearray(size)
    return _OK, address


def cudaFree(address):
    note("cudaFree", len(DEVICE_MEMORY.pop(address)))
    return (_OK,)


def cudaMallocHost(size):
    if status := _refused("cudaMallocHost", size):
        return status, None
    memory = (ctypes.c_uint8 * size)()
    _HOST_MEMORY[ctypes.addressof(memory)] = memory
    return _OK, ctypes.addressof(memory)


def cudaFreeHost(address):
    note("cudaFreeHost", len(_HOST_MEMORY.pop(address)))
    return (_OK,)


def cudaStreamCreateWithFlags(flags):
    if status := _refused("cudaStreamCreateWithFlags", flags):
        return status, None
    return _OK, cudaStream_t()


def cudaStreamDestroy(stream):
    note("cudaStreamDestroy")
    del STREAMS[int(stream)]
    return (_OK,)


def cudaMemcpyAsync(target, source, size, kind, stream):
    if status := _refused("cudaMemcpyAsync", cudaMemcpyKind(kind).name, size):
        return (status,)
    inwards = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
    device, host = (target, source) if inwards else (source, target)
    if size > len(DEVICE_MEMORY.get(device, b"")) or size > len(_HOST_MEMORY.get(host, b"")):
        return (_INVALID,)

    def copy():
        if inwards:
            DEVICE_MEMORY[device][:size] = ctypes.string_at(host, size)
        else:
            ctypes.memmove(host, bytes(DEVICE_MEMORY[device][:size]), size)

    stream.work.append(copy)
    return (_OK,)


def cudaStreamSynchronize(stream):
    if status := _refused("cudaStreamSynchronize"):
        return (status,)
    while stream.work:
        stream.work.pop(0)()
    return (_OK,)


def cudaEventCreate():
    note("cudaEventCreate")
    return _OK, cudaEvent_t()


def cudaEventDestroy(event):
    note("cudaEventDestroy")
    return (_OK,)


def cudaEventRecord(event, stream):
    note("cudaEventRecord")
    count = itertools.count(len(stream.work))

    def pass_by():
        event.at = next(count)

    stream.work.append(pass_by)
    return (_OK,)


def cudaEventElapsedTime(first, last):
    if first.at is None or last.at is None:
        return _INVALID, None
    return _OK, float(last.at - first.at)

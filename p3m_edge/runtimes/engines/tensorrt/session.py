"""Run ``model.engine`` on an NVIDIA GPU, one inference at a time, through pinned memory and one stream.

Whether the engine fits this machine is checked before TensorRT sees the file (:mod:`.compatibility`).
"""

from __future__ import annotations

import importlib.util
import math
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import BuildRecord, Flavour
from p3m_edge.runtimes import contract, cuda
from p3m_edge.runtimes.engines.tensorrt.compatibility import check_file, check_gpu, check_version, unfit
from p3m_edge.runtimes.engines.tensorrt.library import MODULES, NAMES, library, make_logger
from p3m_edge.runtimes.engines.tensorrt.options import shapes
from p3m_edge.runtimes.forks import keep, use_once

_PIP: dict[Flavour, str] = {
    "tensorrt": "pip install tensorrt=={0}; on a Jetson it comes with JetPack",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13-libs=={0} tensorrt-rtx-cu13-bindings=={0}",
}


def require() -> ModuleType:
    """What every flavour needs: a driver, a GPU and ``cuda-bindings``. :func:`load` imports TensorRT itself."""
    cuda.driver()
    module = cuda.require()
    if not any(importlib.util.find_spec(name) for names in MODULES.values() for name in names):
        raise MissingError(
            "no TensorRT is installed here",
            hint='pip install tensorrt, or for RTX GPUs: pip install "p3m-edge[tensorrt-rtx]"',
        )
    return module


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Load ``model.engine`` onto a GPU; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    _, number = contract.parse_device(options.device, "tensorrt", [cuda.DEVICE], [cuda.DEVICE])
    build = check_file(manifest, model)
    use_once("CUDA")
    gpu = cuda.find(int(number or 0))  # before TensorRT is imported: without a driver its lean runtimes end the process
    cuda.require()
    try:
        trt = library(build.flavour)
    except MissingError as error:
        error.hint = _PIP[build.flavour].format(build.version)
        raise
    check_version(build, trt.__version__, model)
    check_gpu(build, gpu, model)
    session = Session(trt, manifest, build, model, gpu)
    info = contract.EngineInfo(
        build.flavour, trt.__version__, f"{cuda.DEVICE}:{gpu.index}", gpu.name, hint=options.hint,
        device_memory=session.device_memory,
    )  # fmt: skip
    return contract.Loaded(info, (session.run,), timed=session.timed)


class Session:
    """An engine on a GPU, its execution context, and the memory of its tensors, made once for the largest frame.

    What it holds on the GPU is freed with it, and where its construction fails.

    Attributes
    ----------
    device_memory
        Bytes on the GPU: tensors, and what TensorRT asks for an execution context. The weights come on top.

    Raises
    ------
    ArtefactError
        TensorRT does not take the file, or it is not as the manifest says.
    P3MEdgeError
        The GPU is out of memory, or fails.
    """

    def __init__(self, trt: ModuleType, manifest: Manifest, build: BuildRecord, model: Path, gpu: cuda.Gpu) -> None:
        self._device = device = cuda.Device(gpu)
        self._log = make_logger(trt)
        self._name = manifest.input.name
        self._channels: dict[str, int] = {output.name: output.channels for output in manifest.outputs}
        self._dynamic = build.profile is not None
        self._shape: tuple[int, ...] | None = None
        self._events: list[object] = []
        held: list[Any] = []  # each goes before that of which it was made, and is not held by anything else
        free = weakref.finalize(self, _free, device, held, os.getpid())
        try:
            held.append(self._runtime(trt, build))
            engine = self._engine(held[0], build, model)
            held.append(engine)
            _check_signature(trt, engine, manifest, build, model)
            held.append(self._context(engine))
            del engine
            record = manifest.input
            width, height = (record.width, record.height) if build.profile is None else build.profile.maximum
            pixels = record.batch * cast(int, width) * cast(int, height)
            sizes = {self._name: 3, **{name: 4 * channels for name, channels in self._channels.items()}}
            self._tensors = {name: device.reserve(each * pixels) for name, each in sizes.items()}
            for name, tensor in self._tensors.items():
                self._accepted(held[-1].set_tensor_address(name, tensor.address), f"the address of {name}")
        except BaseException:
            free()
            raise
        self._held = held
        self.device_memory = device.allocated + _scratch(held[1])

    def _runtime(self, trt: ModuleType, build: BuildRecord) -> Any:
        runtime = trt.Runtime(self._log)
        told = self._log.told()
        if told or runtime is None:
            # A broken one would end the process when it is used, and when it goes: it must never go.
            keep(runtime)
            raise MissingError(
                f"{NAMES[build.flavour]} does not start on {self._device.gpu.name}: {'; '.join(told)}",
                hint=f"this version of it may need a newer driver; this one is for CUDA {cuda.driver().cuda}",
            )
        if build.version_compatible:  # such an engine brings a runtime of its own, which is code of the file's
            runtime.engine_host_code_allowed = True
        return runtime

    def _engine(self, runtime: Any, build: BuildRecord, model: Path) -> Any:
        engine = runtime.deserialize_cuda_engine(model.read_bytes())
        if engine is None:
            reason = self._reason()
            if "out of memory" in reason.lower():
                raise self._device.out_of_memory(model.stat().st_size, "for the weights ")
            raise unfit(f"{NAMES[build.flavour]} cannot load {model}: {reason}", model)
        return engine

    def _context(self, engine: Any) -> Any:
        context = engine.create_execution_context()
        if context is None:
            error = self._device.out_of_memory(_scratch(engine), "for an execution context ")
            raise P3MEdgeError(f"{error}; TensorRT says: {self._reason()}", hint=error.hint)
        return context

    def run(self, images: contract.Images, outputs: tuple[str, ...]) -> contract.Outputs:
        """One inference, ``[N, H, W, 3]`` uint8, as the contract has it."""
        with self._device.work():
            image = self._stage(images)
            self._device.copy_in(self._tensors[self._name].address, image)
            self._enqueue()
            found = self._fetch(images, outputs)
        return {name: array.copy() for name, array in found.items()}

    def timed(self, images: contract.Images) -> contract.Phases:
        """One inference with all outputs, and how long the GPU took for each part of it, by events in the stream."""
        device = self._device
        with device.work():
            while len(self._events) < 4:
                self._events.append(device.event())
            start, sent, computed, received = self._events
            image = self._stage(images)
            device.record(start)
            device.copy_in(self._tensors[self._name].address, image)
            device.record(sent)
            since = perf_counter()
            self._enqueue()
            enqueue = (perf_counter() - since) * 1e3
            device.record(computed)
            self._fetch(images, self._channels)
            device.record(received)
        return contract.Phases(
            enqueue, device.elapsed(start, sent), device.elapsed(sent, computed), device.elapsed(computed, received)
        )

    def _stage(self, images: contract.Images) -> contract.Images:
        """The images in pinned memory; the execution context is told of their size."""
        if self._dynamic and images.shape != self._shape:
            self._shape = None
            self._accepted(self._held[-1].set_input_shape(self._name, images.shape), f"a shape of {list(images.shape)}")
            self._shape = images.shape
        staged = self._tensors[self._name].pinned[: images.size].reshape(images.shape)
        np.copyto(staged, images)
        return staged

    def _enqueue(self) -> None:
        self._accepted(self._held[-1].execute_async_v3(self._device.stream), "the inference")

    def _fetch(self, images: contract.Images, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Begin to copy outputs into pinned memory, ``[N, C, H, W]``."""
        found = {}
        batch, height, width = images.shape[:3]
        for name in names:
            shape = (batch, self._channels[name], height, width)
            tensor = self._tensors[name]
            found[name] = tensor.pinned.view(np.float32)[: math.prod(shape)].reshape(shape)
            self._device.copy_out(found[name], tensor.address)
        return found

    def _accepted(self, accepted: bool, what: str) -> None:
        """TensorRT answers whether it accepts something, and tells its logger why not."""
        if not accepted:
            raise P3MEdgeError(f"TensorRT does not accept {what}: {self._reason()}")

    def _reason(self) -> str:
        return "; ".join(self._log.told()) or "it says no more"


def _free(device: cuda.Device, held: list[Any], owner: int) -> None:
    """Free runtime, engine and context of a session, the last made first, and then the GPU's memory."""
    if owner != os.getpid():  # CUDA is of no use in a child that was forked
        return
    if len(held) == 3:
        device.settle()
    while held:
        held.pop()
    device.close()


def _scratch(engine: Any) -> int:
    """Bytes that an execution context needs; the name was changed in TensorRT 10.1, and the old one is gone in 11."""
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def _check_signature(trt: ModuleType, engine: Any, manifest: Manifest, build: BuildRecord, model: Path) -> None:
    """Compare the engine's inputs, outputs and sizes with the manifest."""
    record = manifest.input
    dtypes = {
        name: engine.get_tensor_dtype(name).name for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    given = [name for name in dtypes if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    inputs = {name: (dtypes.pop(name), engine.get_tensor_shape(name)) for name in given}
    outputs: dict[str, str] = dtypes
    contract.check_signature(manifest, model, inputs, outputs)
    found = [tuple(each) for each in engine.get_tensor_profile_shape(record.name, 0)] if record.height is None else []
    if found != ([] if build.profile is None else shapes(build.profile, record)):
        raise contract.mismatch(model, "its profile of sizes is not that of the manifest")
    for name in outputs.keys() - {output.name for output in manifest.outputs}:
        raise contract.mismatch(model, f"its output {name} is not in the manifest")

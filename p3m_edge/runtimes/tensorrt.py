"""TensorRT and TensorRT for RTX: run ``model.engine`` on an NVIDIA GPU with numpy and ``cuda-bindings`` alone.

Not run on a device. One inference at a time: pinned memory, one stream, and a wait at its end. An engine fits one
version, system and kind of GPU: all of that is checked before TensorRT sees the file (:mod:`.tensorrt_fit`).
"""

from __future__ import annotations

import importlib
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
from p3m_edge.records import BuildRecord, Flavour
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.contract import (
    EngineInfo,
    EngineOptions,
    Images,
    Loaded,
    Outputs,
    Phases,
    mismatch,
    unreadable,
)
from p3m_edge.runtimes.process import keep, use_once
from p3m_edge.runtimes.tensorrt_fit import (
    MODULES,
    NAMES,
    check_gpu,
    check_plan,
    check_system,
    check_trust,
    check_version,
    rebuild,
)

_PIP: dict[Flavour, str] = {
    "tensorrt": "pip install tensorrt=={0}; on a Jetson it comes with JetPack",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13-libs=={0} tensorrt-rtx-cu13-bindings=={0}",
}


def require() -> ModuleType:
    """What every flavour needs: a driver and ``cuda-bindings``. TensorRT itself is imported by :func:`load`.

    Raises
    ------
    MissingError
        There is no driver, GPU or package.
    """
    cuda.driver()
    module = cuda.require()
    if not any(importlib.util.find_spec(name) for names in MODULES.values() for name in names):
        raise MissingError(
            "no TensorRT is installed here",
            hint='pip install tensorrt, or for RTX GPUs: pip install "p3m-edge[tensorrt-rtx]"',
        )
    return module


def load(manifest: Manifest, model: Path, options: EngineOptions) -> Loaded:
    """Load ``model.engine`` onto a GPU; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    index = cuda.parse_device(options.device, "tensorrt")
    build = check_plan(manifest, model)
    check_system(build, model)
    check_trust(build, model)
    use_once("CUDA")
    gpu = cuda.find(index)  # before TensorRT is imported: without a driver its lean runtimes end the process
    cuda.require()
    trt = _package(build)
    check_version(build, trt.__version__, model)
    check_gpu(build, gpu, model)
    session = Session(trt, manifest, build, model, gpu)
    info = EngineInfo(
        name=build.flavour,
        version=trt.__version__,
        device=f"{cuda.DEVICE}:{index}",
        device_name=gpu.name,
        precision="graph",
        hint=options.hint,
        threads=None,
        requests=1,
        cache="none",
        device_memory=session.device_memory,
    )
    return Loaded(info, (session.run,), timed=session.timed)


class Session:
    """An engine on a GPU, its execution context, and the memory of its tensors, made once for the largest frame.

    What it holds on the GPU is freed when it is forgotten, and where its making fails.

    Parameters
    ----------
    trt
        The package of the engine's flavour.
    manifest, build, model
        The artefact, how its engine was built, and the engine's file.
    gpu
        Where to run it.

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
        self._parts = _Parts(cuda.Device(gpu))
        weakref.finalize(self, self._parts.close)
        try:
            self._open(trt, manifest, build, model)
        except BaseException:
            self._parts.close()
            raise

    def _open(self, trt: ModuleType, manifest: Manifest, build: BuildRecord, model: Path) -> None:
        parts, device = self._parts, self._parts.device
        parts.log = log = _logger(trt)
        parts.runtime = trt.Runtime(log)
        reason = log.told()
        if reason or parts.runtime is None:
            # A broken one would end the process when it is used, and when it goes: it must never go.
            keep(parts.runtime)
            raise MissingError(
                f"{NAMES[build.flavour]} does not start on {device.gpu.name}: {reason}",
                hint=f"this version of it may need a newer driver; this one is for CUDA {cuda.driver().cuda}",
            )
        if build.version_compatible:  # such an engine brings a runtime of its own, which is code of the file's
            parts.runtime.engine_host_code_allowed = True
        parts.engine = engine = parts.runtime.deserialize_cuda_engine(model.read_bytes())
        if engine is None:
            reason = log.told() or "it says no more"
            if "out of memory" in reason.lower():
                raise cuda.out_of_memory(device, model.stat().st_size, "for the weights ")
            error = unreadable(model, NAMES[build.flavour], RuntimeError(reason))
            error.hint = rebuild(model.parent)
            raise error
        _check_signature(trt, engine, manifest, build, model)
        scratch = _scratch(engine)
        parts.context = context = engine.create_execution_context()
        if context is None:
            reason = log.told()
            error_of_memory = cuda.out_of_memory(device, scratch, "for an execution context ")
            raise P3MEdgeError(f"{error_of_memory}; TensorRT says: {reason}", hint=error_of_memory.hint)
        record = manifest.input
        width, height = (record.width, record.height) if build.profile is None else build.profile.maximum
        self._name, self._dynamic = record.name, build.profile is not None
        pixels = record.batch * cast(int, width) * cast(int, height)
        self._input = _Tensor(device, 3 * pixels)
        self._outputs: dict[str, _Tensor] = {o.name: _Tensor(device, 4 * o.channels * pixels) for o in manifest.outputs}
        self._channels: dict[str, int] = {o.name: o.channels for o in manifest.outputs}
        for name, tensor in {record.name: self._input, **self._outputs}.items():
            self._hold(context.set_tensor_address(name, tensor.address), f"the address of {name}")
        self._shape: tuple[int, ...] | None = None
        self._marks: list[Any] = []
        self.device_memory = device.allocated + scratch

    def run(self, images: Images, outputs: tuple[str, ...]) -> Outputs:
        """One inference, ``[N, H, W, 3]`` uint8, as the contract has it."""
        device = self._parts.device
        with device.work():
            image = self._stage(images)
            device.copy_in(self._input.address, image)
            self._enqueue()
            found = self._fetch(images, outputs)
        return {name: array.copy() for name, array in found.items()}

    def timed(self, images: Images) -> Phases:
        """One inference with all outputs, and how long the GPU took for each part of it, by marks in the stream."""
        device = self._parts.device
        with device.work():
            while len(self._marks) < 4:
                self._marks.append(device.event())
            start, sent, computed, received = self._marks
            image = self._stage(images)
            device.record(start)
            device.copy_in(self._input.address, image)
            device.record(sent)
            since = perf_counter()
            self._enqueue()
            enqueue = (perf_counter() - since) * 1e3
            device.record(computed)
            self._fetch(images, tuple(self._outputs))
            device.record(received)
        return Phases(
            enqueue, device.elapsed(start, sent), device.elapsed(sent, computed), device.elapsed(computed, received)
        )

    def _stage(self, images: Images) -> Images:
        """The images in pinned memory; the execution context is told of their size."""
        context = self._parts.context
        if self._dynamic and images.shape != self._shape:
            self._shape = None
            self._hold(context.set_input_shape(self._name, images.shape), f"a shape of {list(images.shape)}")
            self._shape = images.shape
        staged = self._input.pinned[: images.size].reshape(images.shape)
        np.copyto(staged, images)
        return staged

    def _enqueue(self) -> None:
        self._hold(self._parts.context.execute_async_v3(self._parts.device.stream), "the inference")

    def _fetch(self, images: Images, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Begin to copy outputs into pinned memory, ``[N, C, H, W]``."""
        found = {}
        batch, height, width = images.shape[:3]
        for name in names:
            shape = (batch, self._channels[name], height, width)
            array = self._outputs[name].pinned.view(np.float32)[: math.prod(shape)].reshape(shape)
            self._parts.device.copy_out(array, self._outputs[name].address)
            found[name] = array
        return found

    def _hold(self, accepted: bool, what: str) -> None:
        """TensorRT answers whether it accepts something, and tells its logger why not."""
        if not accepted:
            raise P3MEdgeError(f"TensorRT does not accept {what}: {self._parts.log.told() or 'it says no more'}")


class _Tensor:
    """Memory of one input or output: an address on the GPU, and as many bytes of pinned memory."""

    def __init__(self, device: cuda.Device, size: int) -> None:
        self.address = device.buffer(size)
        self.pinned = device.pinned(size)


class _Parts:
    """What a session holds, apart from it, so that it can be freed in order when the session is gone."""

    def __init__(self, device: cuda.Device) -> None:
        self.device = device
        self._process = os.getpid()
        self.context: Any = None
        self.engine: Any = None
        self.runtime: Any = None
        self.log: Any = None

    def close(self) -> None:
        """Each goes before that of which it was made, and none at work; closing again does nothing."""
        if self._process != os.getpid():  # CUDA is of no use in a child that was forked
            return
        if self.context is not None:
            self.device.settle()
        self.context = None
        self.engine = None
        self.runtime = None
        self.device.close()


def _package(build: BuildRecord) -> ModuleType:
    names = MODULES[build.flavour]
    installed = [name for name in names if importlib.util.find_spec(name)]
    try:
        return importlib.import_module(installed[0] if installed else names[-1])
    except (ImportError, OSError) as error:
        because = f" ({error})" if installed else ""
        raise MissingError(
            f"{NAMES[build.flavour]} cannot be imported{because}", hint=_PIP[build.flavour].format(build.version)
        ) from error


def _logger(trt: ModuleType) -> Any:
    """A logger that keeps errors to itself, until somebody asks why something failed."""
    severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]  # the base is the package's, which need not be here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self._lines.append(" ".join(message.split()))

        def told(self) -> str:
            """The errors since it was asked last, each once."""
            lines = dict.fromkeys(self._lines)
            self._lines.clear()
            return "; ".join(lines)

    return Log()


def _scratch(engine: Any) -> int:
    """Bytes that an execution context needs; the name was changed in TensorRT 10.1, and the old one is gone in 11."""
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def _check_signature(trt: ModuleType, engine: Any, manifest: Manifest, build: BuildRecord, model: Path) -> None:
    """Compare the engine's inputs, outputs and sizes with the manifest."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    record = manifest.input
    if inputs != [record.name] or engine.get_tensor_dtype(record.name) != trt.DataType.UINT8:
        found = ", ".join(f"{name}: {engine.get_tensor_dtype(name).name}" for name in inputs)
        raise mismatch(model, f"its inputs are {found}; expected {record.name}: UINT8")
    shape = tuple(engine.get_tensor_shape(record.name))
    sides = [-1 if side is None else side for side in (record.height, record.width)]
    if shape != (record.batch, *sides, 3):
        raise mismatch(model, f"its input is {list(shape)}")
    if (build.profile is None) != (-1 not in shape):
        raise mismatch(model, "its profile of sizes is not that of the manifest")
    if build.profile is not None:
        sizes = (build.profile.minimum, build.profile.optimum, build.profile.maximum)
        wanted = [(record.batch, height, width, 3) for width, height in sizes]
        if [tuple(one) for one in engine.get_tensor_profile_shape(record.name, 0)] != wanted:
            raise mismatch(model, "its profile of sizes is not that of the manifest")
    promised = {output.name for output in manifest.outputs}
    for output in manifest.outputs:
        if output.name not in names or engine.get_tensor_dtype(output.name) != trt.DataType.FLOAT:
            what = engine.get_tensor_dtype(output.name).name if output.name in names else "missing"
            raise mismatch(model, f"its output {output.name} is {what}")
    for name in names:
        if name not in promised and name != record.name:
            raise mismatch(model, f"its output {name} is not in the manifest")

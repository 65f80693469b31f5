"""OpenVINO: runs ``model.xml`` on processor, graphics processor or neural processor.

The file is compiled as it stands, with all its outputs, and requests read those that are wanted. Without the others
``mobile`` is up to a tenth faster (``export --outputs alpha``), but that is another graph than the verified one. Cache
entries hold the weights (as large as the model): those without, which read them from the artefact, were never found
again for this network (OpenVINO 2026.4.1).
"""

from __future__ import annotations

import platform
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from p3m_edge.errors import ArtefactError, MissingError, OutputError, UsageError
from p3m_edge.manifest import Manifest
from p3m_edge.resources import thread_limit
from p3m_edge.runtimes import cache, contract
from p3m_edge.runtimes.forks import use_once

if TYPE_CHECKING:
    from openvino import CompiledModel, ConstOutput, Core

_DEVICES = ("CPU", "GPU", "NPU")
# A hint that asks for nothing would let the plugin choose, and a GPU computes in half precision whatever the file.
_KERNELS = 200
_HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT"}


def require() -> ModuleType:
    """The package ``openvino``; errors are those of ``import_package``."""
    return contract.import_package("openvino", "openvino", "Core")


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Load ``model.xml``; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    ov = require()
    use_once("OpenVINO")
    build = ov.get_version()
    version = build.split("-")[0]
    contract.check_version(manifest, version)
    core = ov.Core()
    device = _device(core, options)
    precision = _precision(core, device, manifest)
    settings: dict[str, object] = {"PERFORMANCE_HINT": _HINTS[options.hint], "INFERENCE_PRECISION_HINT": precision}
    threads = options.threads or (thread_limit() if device == "CPU" else None)
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    if device == "CPU":
        _keep_few(core)
        if "ENABLE_CPU_PINNING" in core.get_property(device, "SUPPORTED_PROPERTIES"):
            # Else the plugin binds its threads, and the caller's during an inference, to cores from the first one on:
            # two processes with a thread each share that one, and the app's own threads find it taken.
            settings["ENABLE_CPU_PINNING"] = False
    compiled, state = _compile(core, build, manifest, model, device, settings, options)
    _check_device(compiled, device)
    _check_signature(compiled, manifest, model)
    properties = compiled.get_property("SUPPORTED_PROPERTIES")
    threads = compiled.get_property("INFERENCE_NUM_THREADS") if "INFERENCE_NUM_THREADS" in properties else None
    requests = max(1, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    name = core.get_property(device, "FULL_DEVICE_NAME")
    info = contract.EngineInfo("openvino", version, device, name, precision, options.hint, threads, requests, state)
    return contract.Loaded(info, tuple(_runner(ov, compiled, manifest) for _ in range(requests)))


def _runner(ov: ModuleType, compiled: CompiledModel, manifest: Manifest) -> contract.Runner:
    """Inferences that read the images where they are and write alpha where it stays."""
    request = compiled.create_infer_request()
    port = compiled.input(manifest.input.name)
    channels: dict[str, int] = {output.name: output.channels for output in manifest.outputs}
    ports = {output: compiled.output(output) for output in channels}

    def run(images: contract.Images, outputs: tuple[str, ...]) -> contract.Outputs:
        # OpenVINO shares memory only with contiguous arrays that it could write to.
        images = np.require(images, requirements=["C", "W"])
        alpha = np.empty((images.shape[0], channels["alpha"], *images.shape[1:3]), np.float32)
        request.set_tensor(port, ov.Tensor(images, shared_memory=True))
        # A new array every time, wanted or not: the previous one belongs to a caller.
        request.set_tensor(ports["alpha"], ov.Tensor(alpha, shared_memory=True))
        request.infer()
        others = {name: request.get_tensor(ports[name]).data.copy() for name in outputs if name not in contract.ALPHA}
        return {name: alpha if name in contract.ALPHA else others[name] for name in outputs}

    return run


def _device(core: Core, options: contract.EngineOptions) -> str:
    """The device asked for, as OpenVINO spells it."""
    kind, number = contract.parse_device(options.device, "openvino", _DEVICES, _DEVICES, ".")
    device = f"{kind}.{number}" if number else kind
    if options.threads is not None and kind != "CPU":
        raise UsageError(f"a number of threads makes no sense for the device {device}")
    available = core.available_devices
    # One GPU is called GPU, several are GPU.0, GPU.1, ...; both spellings are understood by OpenVINO.
    if device not in available and not any(name.split(".")[0] == kind and number in ("", "0") for name in available):
        raise MissingError(
            f"OpenVINO finds no device {device}",
            hint=f"it finds {', '.join(available)}; a missing one may lack its driver",
        )
    return device


def _keep_few(core: Core) -> None:
    """Limit what the plugin keeps of the kernels that it compiles for each size of a model of dynamic size.

    By itself it keeps 5,000 of them, and grows with every new size (``mobile``: from 193 MB to 750 after a hundred, and
    to 290 with this limit, which is enough for some sizes to alternate). On ARM it keeps none: kernels of the Arm
    Compute Library that are used again give wrong mattes (alpha off by 1, OpenVINO 2026.4.1 on an emulated
    Cortex-A72). The property is OpenVINO's own; a version without it works, too.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return
    with suppress(RuntimeError):
        core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(_KERNELS)})


def _precision(core: Core, device: str, manifest: Manifest) -> Literal["f32", "f16"]:
    """The arithmetic's precision: single for an fp32 artefact and on processors; otherwise half, where there is such.

    A processor that can compute in half precision would give other mattes than the one that verified the artefact, and
    the comparisons of the pooling do not bear it: ResNet-34 fails its gate there.
    """
    if device.split(".")[0] == "CPU":
        return "f32"
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if manifest.precision == "fp32":
        if "FP32" not in capabilities:
            raise ArtefactError(
                f"the device {device} cannot compute in single precision, as an fp32 artefact promises",
                hint="export the target openvino-fp16 for this device",
            )
        return "f32"
    return "f16" if "FP16" in capabilities else "f32"


def _compile(
    core: Core, build: str, manifest: Manifest, model: Path, device: str, settings: dict[str, object],
    options: contract.EngineOptions,
) -> tuple[CompiledModel, Literal["hit", "miss", "off", "none"]]:  # fmt: skip
    """Compile the model, through the cache where possible; a cache that fails costs time, never the start."""

    def plain() -> CompiledModel:
        try:
            return core.compile_model(str(model), device, settings)
        except RuntimeError as error:
            raise contract.unreadable(model, "openvino", error) from error

    if "EXPORT_IMPORT" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return plain(), "none"
    # Without the file's hash (in the middle of an export) nothing would tell one model from the next.
    if not options.cache or manifest.model_file not in manifest.files:
        return plain(), "off"
    compiled: CompiledModel | None = None
    try:
        entry = cache.open_entry(cache.root(options.cache_dir), manifest, model.parent, build)
        cached = settings | {"CACHE_DIR": str(entry), "CACHE_MODE": "OPTIMIZE_SPEED"}
        compiled = core.compile_model(str(model), device, cached)
        if compiled.get_property("LOADED_FROM_CACHE"):
            return compiled, "hit"
        cache.seal(entry)
    except (OSError, RuntimeError, OutputError) as error:
        compiled = compiled or plain()  # where it is not the cache's fault, that fails too, and says why
        reason = " ".join(str(error).split())
        warnings.warn(f"the cache of compiled models is not used: {reason}", cache.CacheWarning, stacklevel=2)
        return compiled, "off"
    return compiled, "miss"


def _check_device(compiled: CompiledModel, device: str) -> None:
    used = compiled.get_property("EXECUTION_DEVICES")
    kind = device.split(".")[0]
    if not used or any(name.split(".")[0] != kind for name in used):
        raise MissingError(f"the device {device} was asked for, but OpenVINO uses {', '.join(used) or 'none'}")


def _check_signature(compiled: CompiledModel, manifest: Manifest, model: Path) -> None:
    def dtype(port: ConstOutput) -> str:
        return str(port.get_element_type().get_type_name())

    inputs = {}
    for port in compiled.inputs:
        names = sorted(port.get_names())
        name = manifest.input.name if manifest.input.name in names else "/".join(names)
        sides = [side.get_length() if side.is_static else None for side in port.get_partial_shape()]
        inputs[name] = (dtype(port), sides)
    outputs = {name: dtype(port) for port in compiled.outputs for name in port.get_names()}
    contract.check_signature(manifest, model, inputs, outputs)

"""ONNX Runtime: runs ``model.onnx`` on the processor or on any execution provider that is installed.

There is no compiled-model cache: a saved optimised graph is bound to the processor that wrote it, is as large as
the model itself, and saves little of the start.
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from p3m_edge.errors import MissingError, P3MEdgeError
from p3m_edge.manifest import Manifest
from p3m_edge.resources import thread_limit, usable_cores
from p3m_edge.runtimes import contract, cuda
from p3m_edge.runtimes.forks import use_once

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

_CPU = "CPUExecutionProvider"
# What runs the graph, then what may run the rest of it. The first is the one that must be at work.
_PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": (_CPU,),
    "cuda": ("CUDAExecutionProvider", _CPU),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", _CPU),
    "dml": ("DmlExecutionProvider", _CPU),
    "coreml": ("CoreMLExecutionProvider", _CPU),
    "openvino": ("OpenVINOExecutionProvider", _CPU),
    "migraphx": ("MIGraphXExecutionProvider", _CPU),
    "qnn": ("QNNExecutionProvider", _CPU),
    "webgpu": ("WebGpuExecutionProvider", _CPU),
    "xnnpack": ("XnnpackExecutionProvider", _CPU),
}
_NVIDIA = ("cuda", "tensorrt")
_NVIDIA_HINT = (
    'pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]"; it needs NVIDIA\'s driver, CUDA and '
    "cuDNN, and TensorRT 10 for the device tensorrt"
)
# What computes on whole maps. The rest may stay on the processor: providers leave arithmetic on shapes there.
_HEAVY = frozenset({
    "Attention", "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "FusedConv", "Gemm",
    "GlobalAveragePool", "GridSample", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "MatMul",
    "MaxPool", "MultiHeadAttention", "QLinearConv", "ReduceMean", "Resize", "Sigmoid", "Softmax", "SpaceToDepth",
})  # fmt: skip
_NUMBERED = ("cuda", "tensorrt", "dml", "migraphx")  # those with an option `device_id`
_ERRORS_ONLY = 3


def require() -> ModuleType:
    """The package ``onnxruntime``, of whatever flavour; errors are those of ``import_package``."""
    return contract.import_package("onnxruntime", "onnx", "InferenceSession")


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Load ``model.onnx``; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    ort = require()
    contract.check_version(manifest, ort.__version__)
    device, providers = _providers(options.device, ort.get_available_providers())
    if device != "cpu":
        use_once(f"ONNX Runtime on {device}")
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    # From the second run on, the planned block of memory would lie beside the arena of the first: half as much again
    # (R34 at 512x512: 1217 against 799 MB), and no faster.
    settings.enable_mem_pattern = False
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Its threads would go on spinning after an inference, beside whatever the app does next with the cores.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    requests = _share_threads(settings, options, on_cpu=device == "cpu")
    if device in _NVIDIA and hasattr(ort, "preload_dlls"):
        with redirect_stdout(sys.stderr):  # it prints which of them it does not find
            ort.preload_dlls()  # those that pip installed: the provider alone would look in the system's folders
    try:
        session = ort.InferenceSession(str(model), settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise contract.unreadable(model, "onnxruntime", error) from error
    wanted = _PROVIDERS[device][0]
    nodes = assigned(session)
    placement = dict(Counter(provider for provider, _ in nodes))
    if wanted not in session.get_providers() or (placement and not placement.get(wanted)):
        raise MissingError(
            f"{wanted} was asked for, but onnxruntime uses {', '.join(placement or session.get_providers())}",
            hint="its libraries may be missing or of another version; onnxruntime's own messages name them"
            + (f": {_NVIDIA_HINT}" if device in _NVIDIA else ""),
        )
    if device in _NVIDIA and (left := heavy_on_processor(nodes)):
        names = ", ".join(f"{kind} ({count})" for kind, count in sorted(left.items()))
        raise MissingError(
            f"{wanted} was asked for, but onnxruntime computes some of the network on the processor: {names}",
            hint="this version of onnxruntime-gpu has no kernels for them; try another, or another precision",
        )
    check_session(session, manifest, model)

    def run(images: contract.Images, outputs: tuple[str, ...]) -> contract.Outputs:
        return dict(zip(outputs, session.run(list(outputs), {manifest.input.name: images}), strict=True))

    info = contract.EngineInfo(
        "onnxruntime", ort.__version__, wanted, _device_name(device, options.device), hint=options.hint,
        threads=settings.intra_op_num_threads or None, requests=requests, placement=placement,
    )  # fmt: skip
    return contract.Loaded(info, (run,) * requests)


def _providers(asked: str | None, available: list[str]) -> tuple[str, list[tuple[str, dict[str, str]]]]:
    """The device's name in the table, and the providers with their options for the session."""
    by_provider = {providers[0].lower(): device for device, providers in _PROVIDERS.items()}
    given, colon, number = (asked or "cpu").partition(":")
    asked = by_provider.get(given.lower(), given) + colon + number
    name, number = contract.parse_device(asked, "onnxruntime", tuple(_PROVIDERS), _NUMBERED)
    wanted = _PROVIDERS[name][0]
    if wanted not in available:
        raise MissingError(
            f"the installed onnxruntime has no {wanted}",
            hint=f"it has {', '.join(available)}; "
            + (_NVIDIA_HINT if name in _NVIDIA else "other flavours of the package bring other providers"),
        )
    numbered = {"device_id": number} if number else {}
    return name, [(p, numbered if p != _CPU else {}) for p in _PROVIDERS[name] if p in available]


def _device_name(device: str, asked: str | None) -> str:
    if device == "cpu":
        return platform.processor() or platform.machine()
    if device in _NVIDIA:
        with suppress(P3MEdgeError):
            return cuda.find(int((asked or "").partition(":")[2] or 0)).name
    return str(asked)


def _share_threads(settings: SessionOptions, options: contract.EngineOptions, *, on_cpu: bool) -> int:
    """Set the threads of the session; returns how many inferences shall run side by side."""
    if options.hint == "latency" or not on_cpu:
        settings.intra_op_num_threads = options.threads or thread_limit() or 0
        return 1 if options.hint == "latency" else 2
    # All runs of a session share one pool, and each run adds its caller's thread.
    threads = options.threads or usable_cores()
    requests = min(threads, max(2, threads // 4))
    settings.intra_op_num_threads = threads - requests + 1
    return requests


def assigned(session: InferenceSession) -> list[tuple[str, str]]:
    """Provider and operator of every node; empty for versions of ONNX Runtime that do not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    parts = session.get_provider_graph_assignment_info()
    return [(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()]


def heavy_on_processor(nodes: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many nodes of each operator that computes on whole maps run on the processor."""
    return dict(Counter(operator for provider, operator in nodes if provider == _CPU and operator in _HEAVY))


def check_session(session: InferenceSession, manifest: Manifest, model: Path) -> None:
    """Whether a session's inputs and outputs are those of the manifest; errors are those of ``check_signature``."""
    inputs = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    contract.check_signature(manifest, model, inputs, {each.name: each.type for each in session.get_outputs()})

"""LiteRT (once TensorFlow Lite): runs ``model.tflite`` on the processor, with XNNPACK's kernels.

Apps on Android load the file themselves, and may give it to a GPU or an NPU; that has not been run here.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import MissingError
from p3m_edge.manifest import Manifest
from p3m_edge.resources import thread_limit, usable_cores
from p3m_edge.runtimes import contract

SIGNATURE = "matte"
"""The name of the model's function, whose input and outputs have the names of the manifest."""
DISTRIBUTION = "ai-edge-litert"
_DEVICES = ("CPU", "GPU", "NPU")


def require() -> ModuleType:
    """The module ``ai_edge_litert.interpreter``; errors are those of ``import_package``."""
    return contract.import_package("ai_edge_litert.interpreter", "litert", "Interpreter", name="ai_edge_litert")


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Load ``model.tflite``; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    litert = require()
    version = metadata.version(DISTRIBUTION)
    contract.check_version(manifest, version, DISTRIBUTION)
    device, _ = contract.parse_device(options.device, "litert", _DEVICES)
    if device != "CPU":
        raise MissingError(
            f"LiteRT computes on the processor alone here, not on the device {device}",
            hint="an app on an Android device can ask for its delegates",
        )
    requests, threads = _share_threads(options)
    try:
        content = model.read_bytes()
        interpreters = [litert.Interpreter(model_content=content, num_threads=threads) for _ in range(requests)]
        runners = tuple(_runner(interpreter, manifest, model) for interpreter in interpreters)
    except (ValueError, RuntimeError, MemoryError, OSError) as error:
        raise contract.unreadable(model, "litert", error) from error
    name = platform.processor() or platform.machine()
    info = contract.EngineInfo("litert", version, device, name, "graph", options.hint, threads, requests)
    return contract.Loaded(info, runners)


def _share_threads(options: contract.EngineOptions) -> tuple[int, int]:
    """How many inferences run side by side, and the threads of each: by itself, LiteRT takes one."""
    if options.hint == "latency":
        return 1, options.threads or thread_limit() or usable_cores()
    threads = options.threads or usable_cores()
    requests = min(threads, max(2, threads // 4))
    return requests, threads // requests


def _runner(interpreter: Any, manifest: Manifest, model: Path) -> contract.Runner:
    """Inferences of one interpreter; it has its own memory, and the weights are everyone's."""
    interpreter.allocate_tensors()
    if SIGNATURE not in interpreter.get_signature_list():
        raise contract.mismatch(model, f"it has no signature {SIGNATURE}")
    signature = interpreter.get_signature_runner(SIGNATURE)
    inputs, outputs = signature.get_input_details(), signature.get_output_details()
    contract.check_signature(
        manifest, model,
        {name: (_dtype(each), each["shape_signature"].tolist()) for name, each in inputs.items()},
        {name: _dtype(each) for name, each in outputs.items()},
    )  # fmt: skip
    entry = inputs[manifest.input.name]["index"]
    places: dict[str, int] = {output.name: outputs[output.name]["index"] for output in manifest.outputs}
    sized: list[tuple[int, ...]] = [tuple(inputs[manifest.input.name]["shape"])]

    def run(images: contract.Images, wanted: tuple[str, ...]) -> contract.Outputs:
        if images.shape != sized[0]:  # a model of open size
            interpreter.resize_tensor_input(entry, images.shape)
            interpreter.allocate_tensors()
            sized[0] = images.shape
        interpreter.set_tensor(entry, images)
        interpreter.invoke()
        found: dict[str, NDArray[np.float32]] = {name: interpreter.get_tensor(places[name]) for name in wanted}
        return found

    return run


def _dtype(details: Mapping[str, Any]) -> str:
    return str(np.dtype(details["dtype"]).name)

"""Core AI: runs ``model.aimodel`` on the processor with Apple's own runtime, on Linux too. Experimental.

Not run on an Apple device: there, apps load the model themselves. An engine is a process of its own
(:mod:`p3m_edge.runtimes.engines.coreai_worker`), which ends when the engine is closed or forgotten.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from types import ModuleType

from p3m_edge.errors import MissingError, missing_package
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes import contract
from p3m_edge.runtimes.engines.coreai_worker import PackedArray, Signature, pack, unpack
from p3m_edge.temporary import temporary_folder
from p3m_edge.workers.parent import Worker, WorkerError

DISTRIBUTION = "coreai-core"
WORKER = "p3m_edge.runtimes.engines.coreai_worker"
_DEVICES = ("CPU", "GPU", "NE")


def require() -> ModuleType:
    """The package ``coreai``, without its libraries: they are loaded in the engine's process.

    Raises
    ------
    MissingError
        It cannot be imported.
    """
    package = contract.import_package("coreai", "coreai")
    try:
        metadata.version(DISTRIBUTION)  # nothing else of that name will do
    except ImportError as error:
        raise missing_package("coreai", "coreai", error) from error
    return package


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Start the process and let it load the model; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    require()
    version = metadata.version(DISTRIBUTION)
    contract.check_version(manifest, version, DISTRIBUTION)
    device, _ = contract.parse_device(options.device, "coreai", _DEVICES)
    if device != "CPU":
        raise MissingError(
            f"Core AI computes on the processor alone here, not on the device {device}",
            hint="an app on an Apple device can ask for more",
        )
    with temporary_folder() as scratch:  # for what the runtime writes in order to load
        worker = Worker(WORKER, scratch=scratch)
        worker.send("load", path=str(model.absolute()))
        try:
            found = worker.receive(Signature)
        except WorkerError as error:
            missing = isinstance(original := error.original(), MissingError)
            raise (original if missing else contract.unreadable(model, "Core AI", error)) from error
    inputs = {name: (array.dtype, array.shape) for name, array in found.inputs.items()}
    contract.check_signature(manifest, model, inputs, {name: array.dtype for name, array in found.outputs.items()})

    def run(images: contract.Images, outputs: tuple[str, ...]) -> contract.Outputs:
        worker.send("infer", inputs={manifest.input.name: pack(images)}, outputs=outputs)
        try:
            found = worker.receive(dict[str, PackedArray])
        except WorkerError as error:  # as engines fail that are no processes
            raise RuntimeError(str(error)) from error
        return {output: unpack(array) for output, array in found.items()}

    info = contract.EngineInfo("coreai", version, device, platform.processor() or platform.machine(), hint=options.hint)
    return contract.Loaded(info, (run,))

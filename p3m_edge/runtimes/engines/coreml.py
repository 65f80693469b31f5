"""Core ML: runs ``model.mlpackage`` on a Mac, on processor, graphics processor or Neural Engine. Not run on a device.

Apps on iOS and macOS load the package themselves; this is for checking and timing an artefact on a Mac from Python.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from p3m_edge.errors import ArtefactError, MissingError
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import InputRecord
from p3m_edge.runtimes import contract
from p3m_edge.runtimes.forks import use_once

UNITS = {"CPU": "CPU_ONLY", "GPU": "CPU_AND_GPU", "NE": "CPU_AND_NE", "ALL": "ALL"}
"""What may do the work, by the name on the command line; Core ML decides for each operator."""
Predict = Callable[[Mapping[str, Image.Image], Any], Mapping[str, Any]]


def here() -> bool:
    """Whether this system has Core ML."""
    return platform.system() == "Darwin"


def require() -> ModuleType:
    """The package ``coremltools``.

    Raises
    ------
    MissingError
        This is no Mac, or the package cannot be imported.
    """
    if not here():
        raise MissingError(
            f"Core ML runs on Apple's systems alone, not on {platform.system()}",
            hint="p3m-edge verify DIR interprets the artefact here",
        )
    return contract.import_package("coremltools", "coreml")


def load(manifest: Manifest, model: Path, options: contract.EngineOptions) -> contract.Loaded:
    """Compile and load the package.

    Raises
    ------
    MissingError
        This is no Mac, or a package is absent.
    UsageError
        The device is unknown.
    ArtefactError
        The system is older than the artefact allows, or Core ML cannot load the package.
    """
    coremltools = require()
    use_once("Core ML")
    minimum, macos = manifest.engine.minimum_version, platform.mac_ver()[0]
    if _as_ios(macos) < int(minimum):
        raise ArtefactError(
            f"the artefact needs iOS {minimum} or the macOS of that year; this is macOS {macos}",
            hint="export it again, for an older system",
        )
    device, _ = contract.parse_device(options.device, "coreml", tuple(UNITS))
    try:
        loaded = coremltools.models.MLModel(
            str(model), compute_units=coremltools.ComputeUnit[UNITS[device]], function_name=manifest.function
        )
    except Exception as error:  # Core ML's own, as RuntimeError and others
        raise contract.unreadable(model, "Core ML", error) from error
    names = declared(loaded.get_spec().description, manifest.function)
    missing = [output.name for output in manifest.outputs if output.name not in names]
    if missing:
        raise contract.mismatch(model, f"it has no output {', '.join(missing)}")
    info = contract.EngineInfo("coreml", macos, device, platform.machine(), hint=options.hint)
    states: list[object] = []

    def state() -> object:
        """What goes in beside the image: None, or the state, a new one for a frame by itself."""
        if manifest.smoothing is None:
            return None
        if not (options.sequence and states):
            states[:] = [loaded.make_state()]
        return states[0]

    return contract.Loaded(info, (runner(loaded.predict, manifest.input, state),), states.clear)


def declared(description: Any, function: str | None) -> set[str]:
    """The outputs that a package's description names, of one of its functions or of the only one."""
    parts = [description] if function is None else [each for each in description.functions if each.name == function]
    return {output.name for part in parts for output in part.output}


def runner(predict: Predict, record: InputRecord, state: Callable[[], object] = lambda: None) -> contract.Runner:
    """What Core ML takes and gives as the contract has it: images in, images and multi-arrays out.

    ``predict`` also gets the state for the image, where the model has one.
    """

    def run(images: contract.Images, outputs: tuple[str, ...]) -> contract.Outputs:
        found = predict({record.name: Image.fromarray(images[0])}, state())
        return {name: _array(found[name]) for name in outputs}

    return run


def _array(value: ArrayLike) -> NDArray[np.float32]:
    """An image of one channel, or a multi-array, as float32 ``[1, C, H, W]``."""
    array = np.asarray(value, dtype=np.float32)
    return array.reshape((1, 1, *array.shape)) if array.ndim == 2 else array


def _as_ios(macos: str) -> int:
    """The iOS release of the same year: 13 is 16, 14 is 17, 15 is 18; from 26 on they are the same."""
    major = int(macos.partition(".")[0])
    return major + 3 if major < 26 else major

"""Core AI: runs ``model.aimodel`` on the processor with Apple's own runtime, on Linux too. Experimental.

Not run on an Apple device: there, apps load the model themselves. An engine is a process of its own
(:mod:`p3m_edge.runtimes.coreai_process`), which ends when the engine is closed or forgotten.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import subprocess
import tempfile
import weakref
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from p3m_edge.errors import MissingError, UsageError, ended, missing_package, suggestion
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.contract import (
    EngineInfo,
    EngineOptions,
    Images,
    Loaded,
    Outputs,
    check_version,
    mismatch,
    unreadable,
)
from p3m_edge.runtimes.coreai_process import Answer, Array, Inference, pack, receive, send, unpack
from p3m_edge.runtimes.process import python

DISTRIBUTION = "coreai-core"
PROCESS = "p3m_edge.runtimes.coreai_process"
_DEVICES = ("CPU", "GPU", "NE")
_PATIENCE = 5.0  # seconds for the process to end by itself


def require() -> ModuleType:
    """The package ``coreai``, without its libraries: they are loaded in the engine's process.

    Raises
    ------
    MissingError
        It cannot be imported.
    """
    try:
        package = importlib.import_module("coreai")
        metadata.version(DISTRIBUTION)  # nothing else of that name will do
    except ImportError as error:
        raise missing_package("coreai", "coreai", error) from error
    return package


def load(manifest: Manifest, model: Path, options: EngineOptions) -> Loaded:
    """Start the process and let it load the model; see :func:`p3m_edge.runtimes.engine.open_engine` for the errors."""
    require()
    version = metadata.version(DISTRIBUTION)
    check_version(manifest, version, DISTRIBUTION)
    device = (options.device or "CPU").upper()
    if device not in _DEVICES:
        raise UsageError(f"unknown device {options.device!r} for coreai", hint=suggestion(device, _DEVICES))
    if device != "CPU":
        raise MissingError(
            f"Core AI computes on the processor alone here, not on the device {device}",
            hint="an app on an Apple device can ask for more",
        )
    process = Process(model)
    _check_signature(process.signature, manifest, model)
    info = EngineInfo(
        "coreai", version, device, platform.processor() or platform.machine(), "graph", options.hint, None, 1, "none"
    )
    return Loaded(info, (functools.partial(_run, process, manifest.input.name),))


def _run(process: Process, name: str, images: Images, outputs: tuple[str, ...]) -> Outputs:
    answer = process.ask(Inference({name: pack(images)}, outputs))
    return {output: unpack(answer.outputs[output]) for output in outputs}


class Process:
    """The process with a loaded model. It ends with this object.

    Parameters
    ----------
    model
        The ``.aimodel``.

    Raises
    ------
    MissingError
        The libraries of Core AI cannot be loaded.
    ArtefactError
        It cannot load the model.
    """

    def __init__(self, model: Path) -> None:
        # What the runtime says and what it writes in order to load must not outlive it, however it ends.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        with tempfile.TemporaryDirectory(prefix="p3m-edge-", ignore_cleanup_errors=True) as scratch:
            self._process = python(PROCESS, self._said, {"TMPDIR": scratch})
            weakref.finalize(self, _end, self._process, self._said, os.getpid())
            try:
                self.signature = self._exchange(str(model.absolute()))
            except RuntimeError as error:
                raise unreadable(model, "Core AI", error) from error
        if self.signature.missing:
            raise missing_package("coreai", "coreai", ImportError(self.signature.failure))
        if self.signature.failure:
            raise unreadable(model, "Core AI", RuntimeError(self.signature.failure))

    def ask(self, order: Inference) -> Answer:
        """Run an inference.

        Raises
        ------
        RuntimeError
            It failed, or the process has ended.
        """
        answer = self._exchange(order)
        if answer.failure:
            raise RuntimeError(answer.failure)
        return answer

    def _exchange(self, message: object) -> Answer:
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        try:
            send(orders, message)
            return receive(answers, Answer)
        except (OSError, EOFError):
            code = self._process.wait()
            self._said.seek(0)
            raise RuntimeError(ended(code, self._said.read())) from None
        except BaseException:  # Ctrl-C: an answer that comes too late would be taken for the next one
            self._process.kill()
            raise


def _end(process: subprocess.Popen[bytes], said: IO[bytes], owner: int) -> None:
    """Close the pipe, at which the process ends; wait for that, then insist. A forked child of its owner does not."""
    if owner != os.getpid():
        return
    for stream in (process.stdin, process.stdout, said):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check_signature(found: Answer, manifest: Manifest, model: Path) -> None:
    """Compare the model's inputs and outputs with the manifest."""
    record = manifest.input
    expected = Array("uint8", (record.batch, record.height, record.width, 3))
    if found.inputs != {record.name: expected}:
        inputs = ", ".join(f"{name}: {array.dtype} {list(array.shape)}" for name, array in found.inputs.items())
        raise mismatch(model, f"its inputs are {inputs}")
    for output in manifest.outputs:
        array = found.outputs.get(output.name)
        if array is None or array.dtype != np.dtype(np.float32).name:
            raise mismatch(model, f"its output {output.name} is {array.dtype if array else 'missing'}")

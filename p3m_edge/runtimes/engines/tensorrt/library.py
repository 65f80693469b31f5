"""The packages of TensorRT and TensorRT for RTX: names, import and logger."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from p3m_edge.errors import MissingError
from p3m_edge.manifest_schema import Flavour
from p3m_edge.workers.child import described

NAMES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}
"""The flavours, as people write them."""
MODULES: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Import names of each flavour's package: the metapackage of the second one only passes on what is in the other."""


def library(flavour: Flavour) -> ModuleType:
    """The package of a flavour; ``MissingError``: it is not installed, or cannot be imported.

    Without a driver, lean runtimes end the process that imports them.
    """
    for name in MODULES[flavour]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(name)
        except Exception as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                raise MissingError(f"{NAMES[flavour]} cannot be imported: {described(error)}") from error
    raise MissingError(f"{NAMES[flavour]} is not installed")


def make_logger(trt: ModuleType, hear: Callable[[str], None] = lambda line: None) -> Any:
    """A logger that keeps errors until ``told()`` asks for them; ``hear`` gets errors and warnings as they come."""
    severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]  # the base is the package's, which need not be here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            line = " ".join(message.split())
            if severity in severe:
                self._errors.append(line)
            if severity in (*severe, trt.ILogger.WARNING):
                hear(line)

        def told(self) -> list[str]:
            """The errors since it was asked last, each once."""
            lines = list(dict.fromkeys(self._errors))
            self._errors.clear()
            return lines

    return Log()

"""Reading a Core ML package back, on any system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from p3m_edge.errors import ArtefactError, missing_package
from p3m_edge.export.quiet import quiet

_MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
_WEIGHTS = Path("Data/com.apple.CoreML/weights")


@dataclass(frozen=True)
class Package:
    """What is in the ``.mlpackage`` folder ``path``: the protocol buffer (``Model``), and coremltools' ``Program``."""

    path: Path
    specification: Any
    program: Any

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of its functions, the default one first."""
        default = self.specification.description.defaultFunctionName or "main"
        return tuple(sorted(self.program.functions, key=lambda name: (name != default, name)))


def require() -> ModuleType:
    """The package ``coremltools``, without what it says of parts that other systems have.

    Raises
    ------
    MissingError
        It cannot be imported.
    """
    try:
        with quiet(stderr=True):
            import coremltools
    except ImportError as error:
        raise missing_package("coremltools", "coreml", error) from error
    module: ModuleType = coremltools
    return module


def read(path: Path) -> Package:
    """Read a package.

    Parameters
    ----------
    path
        A folder ``*.mlpackage`` with an ML Program.

    Raises
    ------
    MissingError
        coremltools cannot be imported.
    ArtefactError
        The folder is no package, is damaged, or holds another kind of model.
    """
    if not path.is_dir():
        raise ArtefactError(f"{path} is no Core ML package: a package is a folder")
    if not (path / _MODEL).is_file():
        raise ArtefactError(f"{path} is no Core ML package: {_MODEL} is missing")
    coremltools = require()
    with quiet(stderr=True):
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            specification = coremltools.models.utils.load_spec(str(path))
        except Exception as error:  # of the protocol buffers, of C++, of the file system
            raise ArtefactError(f"{path} cannot be read: {_line(error)}") from error
        kind = specification.WhichOneof("Type")
        if kind != "mlProgram":
            raise ArtefactError(f"{path} holds a {kind}, not an ML Program")
        try:
            program = load(specification, specification.specificationVersion, str(path / _WEIGHTS))
        except Exception as error:  # coremltools checks nothing before it goes on
            raise ArtefactError(f"{path} is damaged: {_line(error)}") from error
    return Package(path, specification, program)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""Reading a Core ML package back, on any system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from p3m_edge.errors import ArtefactError, missing_package
from p3m_edge.export.quiet import quiet

_MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
_WEIGHTS = Path("Data/com.apple.CoreML/weights")
Specification = Any
"""A package's protocol buffer (``Model``); coremltools has no types."""


class Var(Protocol):
    """A value in coremltools' ``Program``: open sides are symbols, and ``val`` is None where it is computed."""

    name: str
    shape: tuple[Any, ...]
    val: object
    op: Operation | None
    dtype: object
    sym_type: object


class Operation(Protocol):
    """An operation in coremltools' ``Program``."""

    name: str
    op_type: str
    inputs: Mapping[str, Var | list[Var] | tuple[Var, ...] | None]
    outputs: Sequence[Var]

    def default_inputs(self) -> Mapping[str, object]:
        """What options are that were not given."""

    def materialized_val_inference(self) -> object:
        """The values of compressed weights."""


class Function(Protocol):
    """A function of coremltools' ``Program``."""

    inputs: Mapping[str, Var]
    outputs: Sequence[Var]
    operations: Sequence[Operation]


class Program(Protocol):
    """coremltools' ``Program``."""

    functions: Mapping[str, Function]


@dataclass(frozen=True)
class Package:
    """What is in the ``.mlpackage`` folder ``path``."""

    path: Path
    specification: Specification
    program: Program

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
    """Read a folder ``*.mlpackage`` with an ML Program.

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

        wrong = "cannot be read"
        try:
            specification = coremltools.models.utils.load_spec(str(path))
            wrong = "is damaged"
            kind = specification.WhichOneof("Type")
            if kind == "mlProgram":
                program = load(specification, specification.specificationVersion, str(path / _WEIGHTS))
        except Exception as error:  # of protocol buffers, C++, the file system; coremltools checks nothing before
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ArtefactError(f"{path} {wrong}: {reason}") from error
    if kind != "mlProgram":
        raise ArtefactError(f"{path} holds a {kind}, not an ML Program")
    return Package(path, specification, program)

"""The shape of ``tensorrt`` 10.16: weak typing and the flags of types are still there, and must not be used."""

import enum

from recorded import *  # type: ignore[import-not-found]  # noqa: F403 - it is on the path where this is
from recorded import Builder as _Builder

__version__ = "10.16.1.11"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = 0, 1


class BuilderFlag(enum.Enum):
    FP16, INT8, TF32, VERSION_COMPATIBLE = range(4)


class Builder(_Builder):  # type: ignore[misc]  # what is imported above, mypy does not know
    strongly_typed = 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
    platform_has_fast_fp16 = True

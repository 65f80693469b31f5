"""The shape of ``tensorrt`` 11.4: every network is strongly typed, and nothing else speaks of types."""

import enum

from recorded import *  # type: ignore[import-not-found]  # noqa: F403 - it is on the path where this is

__version__ = "11.4.0.106"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """Deprecated: accepted, and without effect."""

    STRONGLY_TYPED = 0


class BuilderFlag(enum.Enum):
    TF32, VERSION_COMPATIBLE = range(2)

"""Run artefacts without PyTorch: ``Matting(folder)(frame)`` gives the frame's alpha.

The packages of the engines are imported when an artefact needs them, never before.
"""

from p3m_edge.runtimes.cache import CacheWarning
from p3m_edge.runtimes.contract import EngineInfo, EngineOptions
from p3m_edge.runtimes.engine import Engine, open_engine
from p3m_edge.runtimes.golden import SelfTest
from p3m_edge.runtimes.matting import Matting
from p3m_edge.runtimes.opening import MattingInfo, OtherNetworkWarning, UnverifiedWarning

__all__ = [
    "CacheWarning",
    "Engine",
    "EngineInfo",
    "EngineOptions",
    "Matting",
    "MattingInfo",
    "OtherNetworkWarning",
    "SelfTest",
    "UnverifiedWarning",
    "open_engine",
]

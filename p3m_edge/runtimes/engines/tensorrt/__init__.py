"""TensorRT and TensorRT for RTX: engines are built (``builder``, ``worker``), checked (``compatibility``) and run
(``session``) on NVIDIA GPUs, with numpy and ``cuda-bindings`` alone.
"""

from p3m_edge.runtimes.engines.tensorrt.session import load, require

__all__ = ["load", "require"]

# noqa: N999 - PyInstaller wants the name of the module that is imported
"""A frozen app that runs artefacts gets the modules of all engines, and ONNX Runtime and OpenVINO where they are here.

An app leaves one out with ``--exclude-module openvino``. TensorRT's libraries are larger than most apps, and are not
collected by themselves: ``--hidden-import tensorrt --collect-binaries tensorrt_libs``.
"""

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_dynamic_libs

from p3m_edge.runtimes.contract import ENGINES

_here = [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]

# Their plug-ins are loaded by name, too, and have their version behind the suffix.
_LIBRARIES = ["*.dll", "*.dylib", "*.so", "*.so.*"]

hiddenimports = [*ENGINES.values(), *_here]
binaries = [pair for name in _here for pair in collect_dynamic_libs(name, search_patterns=_LIBRARIES)]

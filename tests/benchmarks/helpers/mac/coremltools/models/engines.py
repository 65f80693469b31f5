import platform
import sys
from pathlib import Path

MAC = str(Path(__file__).parents[2])


def network(path):
    """ONNX Runtime: the names of the outputs, and what gives them for ``[1, H, W, 3]``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return names, lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))


def program(path):
    """The interpreter, which takes the real coremltools: from now on this process has that, and PyTorch on Linux."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "coremltools"]:
        del sys.modules[name]
    sys.path.remove(MAC)
    says, platform.system = platform.system, lambda: platform.uname().system
    try:
        from p3m_edge.export.mil.engine import as_image
        from p3m_edge.export.mil.interpreter import Interpreter
        from p3m_edge.export.mil.package import read
    finally:
        platform.system = says
    interpreter = Interpreter(read(path))
    return interpreter.outputs, lambda image: interpreter.run({"image": as_image(image)}, "typed").outputs

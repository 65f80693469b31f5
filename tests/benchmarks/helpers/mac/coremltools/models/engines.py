import platform
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

MAC = str(Path(__file__).parents[2])


def network(path):
    """ONNX Runtime: the names of the outputs, and what gives them for ``[1, H, W, 3]``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return names, lambda image, state: dict(zip(names, session.run(None, {"image": image}), strict=True))


_REAL: dict[str, ModuleType] = {}


@contextmanager
def real():
    """With the real coremltools, which the interpreter takes, and Linux, on which PyTorch is."""
    ours, says = _taken(), platform.system
    sys.modules.update(_REAL)
    sys.path.remove(MAC)
    platform.system = lambda: platform.uname().system
    try:
        yield
    finally:
        _REAL.update(_taken())
        sys.modules.update(ours)
        sys.path.insert(0, MAC)
        platform.system = says


def _taken():
    names = [name for name in sys.modules if name.partition(".")[0] == "coremltools"]
    return {name: sys.modules.pop(name) for name in names}


def program(path, function):
    """The interpreter: the names of the outputs, and what gives them and changes the state."""
    with real():
        from p3m_edge.export.formats.coreml.mil.engine import as_image
        from p3m_edge.export.formats.coreml.mil.interpreter import Interpreter
        from p3m_edge.export.formats.coreml.mil.package import read

        interpreter = Interpreter(read(path), function)

    def run(image, state):
        with real():
            result = interpreter.run({"image": as_image(image)}, "typed", state)
        if state is not None:
            state.update(result.states)
        return result.outputs

    return interpreter.outputs, run

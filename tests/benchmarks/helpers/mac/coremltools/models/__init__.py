from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from . import engines
from . import utils as utils


class MLModel:
    """An image in; alpha as an image and the others as arrays out. A prediction changes the state, a dictionary."""

    def __init__(self, path, compute_units, function_name=None):
        own, shared = (Path(path) / f"{name}.onnx" for name in (compute_units.name, "model"))
        network = own if own.exists() else shared
        self._function = function_name
        self._names, self._run = (
            engines.network(network) if network.exists() else engines.program(Path(path), function_name)
        )

    def get_spec(self):
        outputs = [SimpleNamespace(name=name) for name in self._names]
        functions = [SimpleNamespace(name=self._function, output=outputs)]
        return SimpleNamespace(description=SimpleNamespace(output=outputs, functions=functions))

    def make_state(self):
        return {}

    def predict(self, given, state=None):
        found = self._run(np.asarray(given["image"])[None], state)
        return {**found, "alpha": Image.fromarray(found["alpha"][0, 0])}

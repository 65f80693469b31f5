from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from . import engines
from . import utils as utils


class MLModel:
    """An image in; alpha as an image and the others as arrays out."""

    def __init__(self, path, compute_units, function_name):
        own, shared = (Path(path) / f"{name}.onnx" for name in (compute_units.name, "model"))
        network = own if own.exists() else shared
        self._names, self._run = engines.network(network) if network.exists() else engines.program(Path(path))

    def get_spec(self):
        outputs = [SimpleNamespace(name=name) for name in self._names]
        return SimpleNamespace(description=SimpleNamespace(output=outputs))

    def predict(self, given, state):
        found = self._run(np.asarray(given["image"])[None])
        return {**found, "alpha": Image.fromarray(found["alpha"][0, 0])}

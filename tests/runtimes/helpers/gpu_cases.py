"""Opens an artefact on the stand-in of a GPU once for each case in the JSON of the first argument; prints outcomes.

A case: what ``SETTINGS`` of the stand-in are, the device, TensorRT's version, changes of the build record, whether it
is run. An outcome: what was raised, or the engine's information.
"""

import importlib
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from p3m_edge.errors import P3MEdgeError
from p3m_edge.runtimes import Matting
from p3m_edge.runtimes.engines.tensorrt.compatibility import TRUST
from tests.artefacts import edit_manifest, make_artefact

stand_in = importlib.import_module("sitecustomize")
tensorrt = importlib.import_module("tensorrt")
cudart = importlib.import_module("cuda.bindings.runtime")


def outcome(folder, case):
    before = dict(stand_in.SETTINGS)
    stand_in.SETTINGS.update(case.get("settings", {}))
    vars(tensorrt)["__version__"] = case.get("version", stand_in.SETTINGS["tensorrt"])
    os.environ[TRUST] = "1" if case.get("trust") else ""
    try:
        edit_manifest(folder, **{f"engine__build__{name}": value for name, value in case.get("build", {}).items()})
        with Matting(folder, case.get("device")) as matting:
            if "frame" in case:
                width, height = case["frame"]
                matting.engine.infer(np.zeros((1, height, width, 3), np.uint8))
            return {"info": asdict(matting.info.engine)}
    except P3MEdgeError as error:
        found = {"error": str(error), "hint": error.hint, "code": error.exit_code}
        del error  # its frames hold the engine
        return found
    finally:
        stand_in.SETTINGS.clear()
        stand_in.SETTINGS.update(before)
        vars(tensorrt)["__version__"] = before["tensorrt"]


def main():
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = []
        for index, case in enumerate(json.loads(sys.argv[1])):
            folder = make_artefact(Path(scratch) / str(index), "tensorrt", case.get("size"))
            outcomes.append(outcome(folder, case) | {"left": len(cudart.DEVICE_MEMORY) + len(cudart.STREAMS)})
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()

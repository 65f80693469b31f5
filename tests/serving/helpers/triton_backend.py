"""A backend of Triton, in Python, under the name of the one for ONNX Runtime, which no package on PyPI has.

Triton itself reads ``config.pbtxt``, batches, warms up and answers; this runs the repository's file.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [output["name"] for output in config["output"]]

    def execute(self, requests):
        images = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        values = self.session.run(self.names, {"image": np.concatenate(images)})
        ends = np.cumsum([len(image) for image in images])[:-1]
        shares = zip(*(np.split(value, ends) for value in values), strict=True)
        return [
            triton.InferenceResponse([triton.Tensor(name, value) for name, value in zip(self.names, each, strict=True)])
            for each in shares
        ]

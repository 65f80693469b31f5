"""A model of MLServer that runs the repository's ONNX file: MLServer has no runtime for ONNX of its own."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]  # MLServer is in another environment
    async def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        image = NumpyCodec.decode_input(payload.inputs[0])
        wanted = [output.name for output in payload.outputs or self.session.get_outputs()]
        values = self.session.run(wanted, {"image": image})
        outputs = [NumpyCodec.encode_output(name, value) for name, value in zip(wanted, values, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)

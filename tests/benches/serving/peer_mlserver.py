"""A model of MLServer around ONNX Runtime, as its documentation has one write it."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        uri = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self.given = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        [given] = payload.inputs
        [answer, *_] = self.session.run(None, {self.given: NumpyCodec.decode_input(given)})
        outputs = [NumpyCodec.encode_output("answer", answer)]
        return InferenceResponse(model_name=self.name, outputs=outputs)

"""kserve's REST client, unchanged."""

import unittest

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

import field

URL = f"http://{field.HTTP}"


def request(model, arrays, binary):
    made = []
    for name, (kind, array) in arrays.items():
        made.append(InferInput(name, list(array.shape), kind))
        # kserve refuses to write FP16 into JSON.
        made[-1].set_data_from_numpy(array, binary_data=binary or kind == "FP16")
    return InferRequest(model_name=model, infer_inputs=made, request_id="seven")


class KServe(unittest.IsolatedAsyncioTestCase, field.Case):
    async def asyncSetUp(self):
        self.client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=60))

    async def asyncTearDown(self):
        await self.client.close()

    async def test_health(self):
        self.assertTrue(await self.client.is_server_live(URL))
        self.assertTrue(await self.client.is_server_ready(URL))
        self.assertTrue(await self.client.is_model_ready(URL, "digits"))

    async def test_images_in_json_and_binary(self):
        images, logits = field.digits()
        for binary in (True, False):
            answer = await self.client.infer(URL, request("digits", {"image": ("FP32", images)}, binary), "digits")
            self.close(answer.outputs[0].as_numpy(), logits)
            self.assertEqual((answer.id, answer.model_name), ("seven", "digits"))

    async def test_every_type(self):
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        for binary in (True, False):
            answer = await self.client.infer(URL, request("echo", arrays, binary), "echo")
            self.assertEqual(len(answer.outputs), len(field.VALUES))
            for output in answer.outputs:
                with self.subTest(output=output.name, binary=binary):
                    self.same(np.asarray(output.as_numpy()), field.VALUES[output.name.removeprefix("out_")])

    async def test_infinity_is_read_from_json_and_nan_is_the_senders(self):
        kinds = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        for kind, dtype in kinds.items():
            arrays[f"in_{kind}"] = (kind, np.array([np.inf, -np.inf], dtype))
        # kserve writes null for what JSON has no number for, so that infinity is sent in raw form; it is answered in JSON.
        answer = await self.client.infer(URL, request("echo", arrays, True), "echo")
        for output in answer.outputs:
            if (kind := output.name.removeprefix("out_")) in kinds:
                self.same(output.as_numpy(), arrays[f"in_{kind}"][1])
        arrays["in_FP32"] = ("FP32", np.array([np.nan, 1], np.float32))
        for binary in (True, False):
            with self.assertRaisesRegex(Exception, "NaN, because an input does"):
                await self.client.infer(URL, request("echo", arrays, binary), "echo")

    async def test_mistakes_are_told(self):
        images, _ = field.digits()
        with self.assertRaisesRegex(Exception, "no model `nothing`"):
            await self.client.infer(URL, request("nothing", {"image": ("FP32", images)}, True), "nothing")


if __name__ == "__main__":
    unittest.main()

"""tritonclient over HTTP, unchanged."""

import asyncio
import unittest

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

import field


def inputs_of(arrays, binary):
    made = []
    for name, (kind, array) in arrays.items():
        made.append(triton.InferInput(name, list(array.shape), kind))
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


class Triton(field.Case):
    def setUp(self):
        self.client = triton.InferenceServerClient(field.HTTP, network_timeout=60, connection_timeout=60)

    def tearDown(self):
        self.client.close()

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("digits"))
        self.assertTrue(self.client.is_model_ready("digits", "1.0.0"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        server = self.client.get_server_metadata()
        self.assertEqual(server["name"], "fieldpost-agent")
        self.assertIn("binary_tensor_data", server["extensions"])
        model = self.client.get_model_metadata("digits")
        self.assertEqual(model["inputs"], [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}])
        self.assertEqual(model["versions"], ["1.0.0"])
        config = self.client.get_model_config("digits")
        self.assertEqual(config["input"], [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 1, 8, 8]}])
        self.assertEqual((config["max_batch_size"], config["platform"]), (0, "onnx_onnxv1"))
        self.assertEqual(self.client.get_model_config("digits", "1.0.0"), config)
        with self.assertRaisesRegex(InferenceServerException, "no model `nothing`"):
            self.client.get_model_config("nothing")

    def test_images_in_every_combination_of_json_and_binary(self):
        images, logits = field.digits()
        for binary_in in (True, False):
            for binary_out in (True, False):
                outputs = [triton.InferRequestedOutput("logits", binary_data=binary_out)]
                sent = inputs_of({"image": ("FP32", images)}, binary_in)
                answer = self.client.infer("digits", sent, outputs=outputs, request_id="one")
                self.close(answer.as_numpy("logits"), logits)
                self.assertEqual(answer.get_response()["id"], "one")
                self.assertEqual(answer.get_response()["model_version"], "1.0.0")

    def test_defaults_with_a_version(self):
        rows, probabilities = field.cancer()
        answer = self.client.infer("cancer", inputs_of({"features": ("FP32", rows)}, True), model_version="1.0.0")
        self.close(answer.as_numpy("probabilities"), probabilities)

    def test_compression_both_ways(self):
        images, logits = field.digits()
        images, logits = np.repeat(images, 20, axis=0), np.repeat(logits, 20, axis=0)
        for coding in ("gzip", "deflate"):
            for binary in (True, False):
                answer = self.client.infer(
                    "digits",
                    inputs_of({"image": ("FP32", images)}, binary),
                    outputs=[triton.InferRequestedOutput("logits", binary_data=binary)],
                    request_compression_algorithm=coding,
                    response_compression_algorithm=coding,
                )
                self.close(answer.as_numpy("logits"), logits)

    def test_every_type_both_ways(self):
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        for binary in (True, False):
            sent = inputs_of(arrays, binary)
            outputs = [triton.InferRequestedOutput(f"out_{kind}", binary_data=binary) for kind in field.VALUES]
            answer = self.client.infer("echo", sent, outputs=outputs)
            for kind, array in field.VALUES.items():
                with self.subTest(kind=kind, binary=binary):
                    self.same(answer.as_numpy(f"out_{kind}"), array)

    def test_the_best_classes_in_an_outputs_stead(self):
        images, logits = field.digits()
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput("logits", binary_data=binary, class_count=3)]
            answer = self.client.infer("digits", inputs_of({"image": ("FP32", images)}, True), outputs=outputs)
            self.assertEqual(answer.get_output("logits")["datatype"], "BYTES")
            self.classes(answer.as_numpy("logits"), logits, 3, [str(digit) for digit in range(10)])
        outputs = [triton.InferRequestedOutput("out_BYTES", class_count=1)]
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        with self.assertRaisesRegex(InferenceServerException, "texts have no order"):
            self.client.infer("echo", inputs_of(arrays, True), outputs=outputs)

    def test_a_timeout_holds_and_a_sequence_is_refused(self):
        images, logits = field.digits()
        sent = inputs_of({"image": ("FP32", images)}, True)
        self.close(self.client.infer("digits", sent, timeout=30_000_000, priority=1).as_numpy("logits"), logits)
        with self.assertRaisesRegex(InferenceServerException, "deadline"):
            self.client.infer("digits", sent, timeout=1)
        with self.assertRaisesRegex(InferenceServerException, "sequences are not served"):
            self.client.infer("digits", sent, sequence_id=7, sequence_start=True)

    def test_json_and_binary_mixed(self):
        inputs, wanted = field.ints()
        kinds = {"ids": "INT64", "mask": "BOOL", "weights": "FP64"}
        sent = []
        for binary, (name, array) in zip((True, False, True), inputs.items()):
            sent += inputs_of({name: (kinds[name], array)}, binary)
        outputs = [triton.InferRequestedOutput("total", binary_data=False), triton.InferRequestedOutput("kept")]
        answer = self.client.infer("int-io", sent, outputs=outputs)
        self.same(answer.as_numpy("total"), wanted["total"])
        self.same(answer.as_numpy("kept"), wanted["kept"])
        self.assertIsNone(answer.as_numpy("large"))

    def test_nan_and_infinity_in_json(self):
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        for kind, dtype in (("FP16", np.float16), ("FP32", np.float32), ("FP64", np.float64)):
            arrays[f"in_{kind}"] = (kind, np.array([np.inf, -np.inf], dtype))
        outputs = [triton.InferRequestedOutput(f"out_{kind}", binary_data=False) for kind in ("FP16", "FP32", "FP64")]
        answer = self.client.infer("echo", inputs_of(arrays, False), outputs=outputs)
        for kind in ("FP16", "FP32", "FP64"):
            self.same(answer.as_numpy(f"out_{kind}"), arrays[f"in_{kind}"][1])

    def test_async_requests(self):
        images, logits = field.digits()
        with triton.InferenceServerClient(field.HTTP, concurrency=4, network_timeout=60) as client:
            sent = inputs_of({"image": ("FP32", images)}, True)
            running = [client.async_infer("digits", sent) for _ in range(16)]
            for request in running:
                self.close(request.get_result().as_numpy("logits"), logits)

    def test_statistics_and_repository(self):
        rows, _ = field.cancer()
        before = self.client.get_inference_statistics("cancer")["model_stats"][0]
        self.client.infer("cancer", inputs_of({"features": ("FP32", rows)}, True))
        after = self.client.get_inference_statistics("cancer", "1.0.0")["model_stats"][0]
        self.assertEqual(after["inference_count"] - before["inference_count"], len(rows))
        grown = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
        self.assertEqual(grown, 1)
        self.assertGreater(after["last_inference"], 1_600_000_000_000)
        index = {model["name"]: model["state"] for model in self.client.get_model_repository_index()}
        self.assertEqual(index, {"cancer": "READY", "digits": "READY", "echo": "READY", "int-io": "READY"})
        for change in (self.client.load_model, self.client.unload_model):
            with self.assertRaisesRegex(InferenceServerException, "signed release"):
                change("digits")

    def test_mistakes_are_told(self):
        images, _ = field.digits()
        cases = (
            ("nothing", "image", "FP32", images, "no model `nothing`"),
            ("digits", "picture", "FP32", images, "image"),
            ("digits", "image", "FP64", images.astype(np.float64), "datatype is FP32, the request has FP64"),
            ("digits", "image", "FP32", images.reshape(5, 64), "its shape is"),
        )
        for model, name, kind, array, reason in cases:
            for binary in (True, False):
                with self.assertRaisesRegex(InferenceServerException, reason):
                    self.client.infer(model, inputs_of({name: (kind, array)}, binary))
        with self.assertRaisesRegex(InferenceServerException, "version 1.0.0 of `digits` is live"):
            self.client.infer("digits", inputs_of({"image": ("FP32", images)}, True), model_version="9")


class Aio(unittest.IsolatedAsyncioTestCase, field.Case):
    """The asyncio client, which is another implementation: aiohttp beneath it, which asks for packed answers unbidden."""

    async def asyncSetUp(self):
        self.client = triton_aio.InferenceServerClient(field.HTTP)

    async def asyncTearDown(self):
        await self.client.close()

    async def test_health_metadata_and_configuration(self):
        self.assertTrue(await self.client.is_server_live())
        self.assertTrue(await self.client.is_server_ready())
        self.assertTrue(await self.client.is_model_ready("digits", "1.0.0"))
        self.assertFalse(await self.client.is_model_ready("nothing"))
        self.assertIn("classification", (await self.client.get_server_metadata())["extensions"])
        self.assertEqual((await self.client.get_model_metadata("digits"))["versions"], ["1.0.0"])
        self.assertEqual((await self.client.get_model_config("digits"))["max_batch_size"], 0)
        self.assertEqual(len(await self.client.get_model_repository_index()), 4)
        counts = await self.client.get_inference_statistics("digits")
        self.assertEqual(counts["model_stats"][0]["name"], "digits")

    async def test_every_type_both_ways(self):
        arrays = {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput(f"out_{kind}", binary_data=binary) for kind in field.VALUES]
            answer = await self.client.infer("echo", inputs_of(arrays, binary), outputs=outputs)
            for kind, array in field.VALUES.items():
                with self.subTest(kind=kind, binary=binary):
                    self.same(answer.as_numpy(f"out_{kind}"), array)

    async def test_many_at_once_packed_and_by_class(self):
        images, logits = field.digits()
        images, logits = np.repeat(images, 20, axis=0), np.repeat(logits, 20, axis=0)
        sent = inputs_of({"image": ("FP32", images)}, True)
        for coding in (None, "gzip", "deflate"):
            packed = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            answers = await asyncio.gather(*(self.client.infer("digits", sent, **packed) for _ in range(8)))
            for answer in answers:
                self.close(answer.as_numpy("logits"), logits)
        outputs = [triton.InferRequestedOutput("logits", class_count=1)]
        best = await self.client.infer("digits", sent, outputs=outputs, timeout=30_000_000)
        self.classes(best.as_numpy("logits"), logits, 1, [str(digit) for digit in range(10)])

    async def test_mistakes_are_told(self):
        images, _ = field.digits()
        sent = inputs_of({"image": ("FP32", images)}, True)
        with self.assertRaisesRegex(InferenceServerException, "no model `nothing`"):
            await self.client.infer("nothing", sent)
        with self.assertRaisesRegex(InferenceServerException, "deadline"):
            await self.client.infer("digits", sent, timeout=1)


if __name__ == "__main__":
    unittest.main()

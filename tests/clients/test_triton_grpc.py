"""tritonclient over gRPC, unchanged: sync, aio, streams, and messages written by hand with its own types."""

import queue
import unittest

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.model_config_pb2 import DataType
from tritonclient.utils import InferenceServerException

import field


def inputs_of(arrays):
    made = []
    for name, (kind, array) in arrays.items():
        made.append(triton.InferInput(name, list(array.shape), kind))
        made[-1].set_data_from_numpy(array)
    return made


def every_type():
    return {f"in_{kind}": (kind, array) for kind, array in field.VALUES.items()}


class Sync(field.Case):
    def setUp(self):
        self.client = triton.InferenceServerClient(field.GRPC)

    def tearDown(self):
        self.client.close()

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("digits"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        self.assertEqual(self.client.get_server_metadata().name, "fieldpost-agent")
        model = self.client.get_model_metadata("digits", "1.0.0", as_json=True)
        self.assertEqual(model["platform"], "onnx_onnxv1")
        self.assertEqual(model["inputs"][0]["shape"], ["-1", "1", "8", "8"])
        config = self.client.get_model_config("digits", "1.0.0").config
        self.assertEqual((config.name, config.platform, config.max_batch_size), ("digits", "onnx_onnxv1", 0))
        self.assertEqual((config.input[0].data_type, list(config.input[0].dims)), (DataType.TYPE_FP32, [-1, 1, 8, 8]))
        self.assertEqual((config.output[0].name, list(config.output[0].dims)), ("logits", [-1, 10]))
        kinds = {tensor.name.removeprefix("in_"): tensor.data_type for tensor in self.client.get_model_config("echo").config.input}
        names = {kind: "STRING" if kind == "BYTES" else kind for kind in field.VALUES}
        self.assertEqual(kinds, {kind: DataType.Value(f"TYPE_{name}") for kind, name in names.items()})

    def test_images(self):
        images, logits = field.digits()
        answer = self.client.infer("digits", inputs_of({"image": ("FP32", images)}), request_id="one")
        self.close(answer.as_numpy("logits"), logits)
        self.assertEqual((answer.get_response().id, answer.get_response().model_version), ("one", "1.0.0"))

    def test_every_type(self):
        answer = self.client.infer("echo", inputs_of(every_type()))
        for kind, array in field.VALUES.items():
            with self.subTest(kind=kind):
                self.same(answer.as_numpy(f"out_{kind}"), array)

    def test_chosen_outputs(self):
        inputs, wanted = field.ints()
        kinds = {"ids": "INT64", "mask": "BOOL", "weights": "FP64"}
        sent = inputs_of({name: (kinds[name], array) for name, array in inputs.items()})
        outputs = [triton.InferRequestedOutput("total"), triton.InferRequestedOutput("large")]
        answer = self.client.infer("int-io", sent, outputs=outputs)
        self.assertEqual([output.name for output in answer.get_response().outputs], ["total", "large"])
        self.same(answer.as_numpy("total"), wanted["total"])
        self.same(answer.as_numpy("large"), wanted["large"])

    def test_the_best_classes_in_an_outputs_stead(self):
        images, logits = field.digits()
        outputs = [triton.InferRequestedOutput("logits", class_count=20)]
        answer = self.client.infer("digits", inputs_of({"image": ("FP32", images)}), outputs=outputs)
        self.classes(answer.as_numpy("logits"), logits, 10, [str(digit) for digit in range(10)])

    def test_packed_requests(self):
        images, logits = field.digits()
        images, logits = np.repeat(images, 50, axis=0), np.repeat(logits, 50, axis=0)
        for coding in ("gzip", "deflate"):
            answer = self.client.infer("digits", inputs_of({"image": ("FP32", images)}), compression_algorithm=coding)
            self.close(answer.as_numpy("logits"), logits)

    def test_streams_answer_in_order_and_outlive_a_mistake(self):
        images, logits = field.digits()
        answers = queue.Queue()
        self.client.start_stream(lambda result, error: answers.put((result, error)))
        sent = inputs_of({"image": ("FP32", images)})
        for number in range(20):
            self.client.async_stream_infer("nothing" if number == 7 else "digits", sent, request_id=str(number))
        for number in range(20):
            result, error = answers.get(timeout=60)
            if number == 7:
                self.assertIn("no model `nothing`", str(error))
                continue
            self.assertIsNone(error)
            self.assertEqual(result.get_response().id, str(number))
            self.close(result.as_numpy("logits"), logits)
        self.client.stop_stream()

    def test_statistics_and_repository(self):
        rows, probabilities = field.cancer()
        self.close(self.client.infer("cancer", inputs_of({"features": ("FP32", rows)})).as_numpy("probabilities"), probabilities)
        counts = self.client.get_inference_statistics("cancer").model_stats[0]
        self.assertGreaterEqual(counts.inference_count, len(rows))
        self.assertGreater(counts.inference_stats.compute_infer.ns, 0)
        self.assertEqual(len(self.client.get_inference_statistics().model_stats), 4)
        index = self.client.get_model_repository_index()
        self.assertEqual([(model.name, model.state) for model in index.models][0], ("cancer", "READY"))
        for change in (self.client.load_model, self.client.unload_model):
            with self.assertRaisesRegex(InferenceServerException, "signed release") as refused:
                change("digits")
            self.assertEqual(refused.exception.status(), "StatusCode.PERMISSION_DENIED")

    def refused(self, status, reason, model, arrays, **options):
        with self.assertRaisesRegex(InferenceServerException, reason) as refused:
            self.client.infer(model, inputs_of(arrays), **options)
        self.assertEqual(refused.exception.status(), f"StatusCode.{status}")

    def test_a_timeout_holds_and_a_sequence_is_refused(self):
        images, logits = field.digits()
        arrays = {"image": ("FP32", images)}
        self.close(self.client.infer("digits", inputs_of(arrays), timeout=30_000_000, priority=1).as_numpy("logits"), logits)
        self.refused("DEADLINE_EXCEEDED", "deadline", "digits", arrays, timeout=1)
        for sequence in (7, "seven"):
            self.refused("INVALID_ARGUMENT", "sequences are not served", "digits", arrays, sequence_id=sequence)

    def test_mistakes_are_told_by_their_status(self):
        images, _ = field.digits()
        self.refused("NOT_FOUND", "no model `nothing`", "nothing", {"image": ("FP32", images)})
        self.refused("NOT_FOUND", "version 1.0.0", "digits", {"image": ("FP32", images)}, model_version="9")
        self.refused("INVALID_ARGUMENT", "it is missing", "digits", {"picture": ("FP32", images)})
        self.refused("INVALID_ARGUMENT", "has FP64", "digits", {"image": ("FP64", images.astype(np.float64))})
        self.refused("INVALID_ARGUMENT", "its shape is", "digits", {"image": ("FP32", images.reshape(5, 64))})


class ByHand(field.Case):
    """What tritonclient never sends: typed contents, and messages that are wrong."""

    def setUp(self):
        self.channel = grpc.insecure_channel(field.GRPC, options=[("grpc.max_send_message_length", -1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def tearDown(self):
        self.channel.close()

    def request(self, shape=(1, 30), **contents):
        request = service_pb2.ModelInferRequest(model_name="cancer")
        tensor = request.inputs.add(name="features", datatype="FP32", shape=shape)
        for name, values in contents.items():
            getattr(tensor.contents, name).extend(values)
        return request

    def test_a_type_without_typed_contents_is_told_so(self):
        fields = {"BOOL": "bool", "UINT8": "uint", "UINT16": "uint", "UINT32": "uint", "UINT64": "uint64", "INT8": "int"}
        fields |= {"INT16": "int", "INT32": "int", "INT64": "int64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
        request = service_pb2.ModelInferRequest(model_name="echo")
        for kind, array in field.VALUES.items():
            if kind == "FP16":
                continue
            tensor = request.inputs.add(name=f"in_{kind}", datatype=kind, shape=[2])
            values = [value.encode() for value in array] if kind == "BYTES" else array.tolist()
            getattr(tensor.contents, f"{fields[kind]}_contents").extend(values)
        request.inputs.add(name="in_FP16", datatype="FP16", shape=[2])
        with self.assertRaises(grpc.RpcError) as refused:
            self.stub.ModelInfer(request)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("FP16 has no typed contents", refused.exception.details())

    def test_typed_questions_have_typed_answers(self):
        inputs, wanted = field.ints()
        request = service_pb2.ModelInferRequest(model_name="int-io")
        for name, kind, contents in (("ids", "INT64", "int64"), ("mask", "BOOL", "bool"), ("weights", "FP64", "fp64")):
            tensor = request.inputs.add(name=name, datatype=kind, shape=inputs[name].shape)
            getattr(tensor.contents, f"{contents}_contents").extend(inputs[name].reshape(-1).tolist())
        answer = self.stub.ModelInfer(request)
        self.assertEqual(len(answer.raw_output_contents), 0)
        kept, large, total = (output.contents for output in answer.outputs)
        self.assertEqual(list(kept.int64_contents), wanted["kept"].reshape(-1).tolist())
        self.assertEqual(list(large.bool_contents), wanted["large"].reshape(-1).tolist())
        self.assertEqual(list(total.fp64_contents), wanted["total"].tolist())

    def refused(self, status, reason, request):
        with self.assertRaises(grpc.RpcError) as refused:
            self.stub.ModelInfer(request)
        self.assertEqual(refused.exception.code(), status, refused.exception.details())
        self.assertRegex(refused.exception.details(), reason)

    def test_wrong_messages(self):
        wrong = grpc.StatusCode.INVALID_ARGUMENT
        self.refused(wrong, "negative: -1", self.request(shape=(-1, 30), fp32_contents=[0] * 30))
        self.refused(wrong, "overflows", self.request(shape=(2**62, 30), fp32_contents=[0] * 30))
        self.refused(wrong, "elements", self.request(fp32_contents=[0] * 29))
        self.refused(wrong, "elements", self.request(fp32_contents=[0] * 31))
        self.refused(wrong, "fp32_contents", self.request(fp64_contents=[0] * 30))
        for size in (119, 121):
            request = self.request()
            request.raw_input_contents.append(bytes(size))
            self.refused(wrong, f"needs 120 bytes, got {size}", request)
        request = self.request(fp32_contents=[0] * 30)
        request.raw_input_contents.append(bytes(120))
        self.refused(wrong, "both", request)

    def test_bytes_that_are_no_message(self):
        call = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with self.assertRaises(grpc.RpcError) as refused:
            call(b"\xff" * 64)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_messages_are_bounded_packed_or_not(self):
        memory = field.rss_mib()
        request = self.request()
        request.raw_input_contents.append(bytes(64 << 20))
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with self.assertRaises(grpc.RpcError) as refused:
                self.stub.ModelInfer(request, compression=compression)
            self.assertIn(refused.exception.code(), (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED))
        self.assertLess(field.rss_mib() - memory, 48)

    def test_an_error_within_a_stream_names_its_request(self):
        sound, wrong = self.request(fp32_contents=[0] * 30), self.request(fp32_contents=[0] * 29)
        sound.id, wrong.id = "sound", "wrong"
        first, second = self.stub.ModelStreamInfer(iter([wrong, sound]))
        self.assertEqual((first.infer_response.id, bool(first.error_message)), ("wrong", True))
        self.assertEqual((second.infer_response.id, second.error_message), ("sound", ""))

    def test_other_services_and_calls_are_unimplemented(self):
        for path in ("/inference.GRPCInferenceService/TraceSetting", "/other.Service/Call"):
            with self.assertRaises(grpc.RpcError) as refused:
                self.channel.unary_unary(path)(b"")
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_a_call_that_is_cancelled_harms_nobody(self):
        for _ in range(20):
            self.stub.ModelInfer.future(self.request(fp32_contents=[0] * 30)).cancel()
        self.assertEqual(len(self.stub.ModelInfer(self.request(fp32_contents=[0] * 30)).outputs), 1)


class Aio(unittest.IsolatedAsyncioTestCase, field.Case):
    async def test_requests_and_streams(self):
        images, logits = field.digits()
        async with triton_aio.InferenceServerClient(field.GRPC) as client:
            self.assertTrue(await client.is_server_ready())
            self.assertTrue(await client.is_model_ready("echo"))
            sent = inputs_of({"image": ("FP32", images)})
            self.close((await client.infer("digits", sent)).as_numpy("logits"), logits)

            async def requests():
                for number in range(10):
                    yield {"model_name": "digits", "inputs": sent, "request_id": str(number)}

            seen = []
            async for result, error in client.stream_infer(requests()):
                self.assertIsNone(error)
                seen.append(result.get_response().id)
            self.assertEqual(seen, [str(number) for number in range(10)])


if __name__ == "__main__":
    unittest.main()

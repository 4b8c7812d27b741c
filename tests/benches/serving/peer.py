"""What people write around ONNX Runtime: `peer.py fastapi|http MODEL SHAPE PORT`. The body is the input's float32, the answer the
first output's."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime

KIND, MODEL, SHAPE, PORT = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
name, shape = session.get_inputs()[0].name, [int(n) for n in SHAPE.split("x")]


def answer(body):
    return session.run(None, {name: np.frombuffer(body, np.float32).reshape(shape)})[0].tobytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: without it delayed acknowledgements cost 40 ms.
    wbufsize = -1

    def do_POST(self):
        content = answer(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # The load generator resets its connections when its time is up.
        if not isinstance(sys.exception(), ConnectionResetError):
            super().handle_error(request, client_address)


if KIND == "http":
    Server(("127.0.0.1", int(PORT)), Handler).serve_forever()
else:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.concurrency import run_in_threadpool

    app = FastAPI()

    @app.post("/")
    async def predict(request: Request):
        return Response(await run_in_threadpool(answer, await request.body()))

    uvicorn.run(app, host="127.0.0.1", port=int(PORT), log_level="error")

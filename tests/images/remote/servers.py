"""Stand-ins of the servers that people run, over HTTP on loopback; what they draw comes from the embedded generator."""

import base64
import io
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from neuroprompt.image_files import from_tensor

WORKFLOW = {
    "1": {"class_type": "Noise", "inputs": {"noise_seed": 7}, "_meta": {"title": "Seed"}},
    "2": {"class_type": "Text", "inputs": {"text": "photo of {prompt}", "clip": ["4", 1]}},
    "3": {"class_type": "Text", "inputs": {"text": "blurry", "clip": ["4", 1]}, "_meta": {"title": "negative"}},
    "4": {"class_type": "Loader", "inputs": {"ckpt_name": "embedded"}, "_meta": {"title": "Prompt"}},  # no input for it
    "5": {"class_type": "Save", "inputs": {"images": ["1", 0], "steps": "{steps}"}},
}
"""Of ComfyUI, with names of both kinds."""


class StandIn:
    """A server of one dialect.

    Attributes:
        url: Where it is.
        drawn: What was asked of it: (text, seed) of each picture.
        bodies: What was sent to it.
        paths: What was asked for.
        fault: Called with the handler before anything is drawn; true where it has answered itself.
        failure: What ComfyUI says of a job that failed.
        seconds: How long a picture takes at least.
    """

    def __init__(self, dialect, generator, port=0, model="embedded"):
        self.dialect, self.generator, self.model = dialect, generator, model
        self.drawn, self.bodies, self.paths, self.headers = [], [], [], []
        self.fault, self.failure, self.seconds = None, None, 0.0
        self.connections = []
        self.jobs, self.files = {}, {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                stand_in.connections.append(self.connection)

            def do_GET(self):
                self.answer(getattr(stand_in, f"get_{dialect}"))

            def do_POST(self):
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                self.body = json.loads(sent) if "json" in self.headers["Content-Type"] else sent
                stand_in.bodies.append(self.body)
                if not (stand_in.fault and stand_in.fault(self)):
                    self.answer(getattr(stand_in, f"post_{dialect}"))

            def answer(self, route):
                stand_in.paths.append(self.path)
                stand_in.headers.append(dict(self.headers))
                if (found := route(self)) is None:
                    self.send(404, {"detail": "Not Found"})
                else:
                    self.send(200, found)

            def send(self, status, content, kind="application/json", **headers):
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": kind, "Content-Length": len(data), **headers}.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # a client that has gone
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """As a kill does: what is being answered breaks off."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def png(self, text, seed):
        """Drawn alone, so that no batch changes the last bit; and once, to save time."""
        time.sleep(self.seconds)
        with _ALONE:
            if (text, seed) not in _FILES:
                file = io.BytesIO()
                from_tensor(self.generator([text], [seed])[0]).save(file, "PNG")
                _FILES[text, seed] = file.getvalue()
        self.drawn.append((text, seed))
        return _FILES[text, seed]

    # --- OpenAI's --------------------------------------------------------------------------------------------------

    def get_openai(self, handler):
        return {"data": [{"id": self.model}]} if handler.path == "/v1/models" else None

    def post_openai(self, handler):
        body = handler.body
        if handler.path == "/v1/images/generations":
            data = base64.b64encode(self.png(body["prompt"], body.get("seed", 0))).decode()
            return {"created": 0, "data": [{"b64_json": data}]}

    # --- ours ------------------------------------------------------------------------------------------------------

    def get_page(self, handler):
        return b"<html>"

    def get_own(self, handler):
        if handler.path == "/info":
            config = {"steps": 2, "guidance": 3.0, "size": [64, 64], "negative": None}
            return {
                "limits": {},
                "generator": {
                    "name": self.model,
                    "fingerprint": f"{self.model}!",
                    "config": config,
                    "window": 77,
                    "takes_negative": True,
                },
            }

    post_own = post_openai

    # --- AUTOMATIC1111's -------------------------------------------------------------------------------------------

    def get_a1111(self, handler):
        if handler.path == "/sdapi/v1/options":
            return {"sd_model_checkpoint": f"{self.model}.safetensors [abc]", "sd_checkpoint_hash": f"{self.model}#"}

    def post_a1111(self, handler):
        body = handler.body
        if handler.path == "/sdapi/v1/txt2img":
            seeds = [body["seed"] + i for i in range(body.get("batch_size", 1))]
            images = [base64.b64encode(self.png(body["prompt"], seed)).decode() for seed in seeds]
            info = {"all_seeds": seeds, "sd_model_hash": f"{self.model}#"}
            return {"images": images, "parameters": body, "info": json.dumps(info)}

    # --- ComfyUI's -------------------------------------------------------------------------------------------------

    def get_comfyui(self, handler):
        place, query = urlsplit(handler.path), parse_qs(urlsplit(handler.path).query)
        if place.path == "/system_stats":
            return {"system": {}, "devices": []}
        if place.path == "/view":
            return self.files[query["filename"][0]]
        if place.path.startswith("/history/"):
            job = place.path.rpartition("/")[2]
            self.jobs[job] -= 1  # it is in the queue when it is first asked about
            if self.jobs[job] < 0:
                if self.failure:
                    messages = [["execution_start", {}], ["execution_error", {"exception_message": self.failure}]]
                    return {job: {"status": {"status_str": "error", "messages": messages}, "outputs": {}}}
                image = {"filename": f"{job}.png", "subfolder": "", "type": "output"}
                return {job: {"status": {"status_str": "success"}, "outputs": {"5": {"images": [image]}}}}
            return {}

    def post_comfyui(self, handler):
        nodes, job = handler.body["prompt"], str(len(self.jobs))
        self.jobs[job] = 1
        self.files[f"{job}.png"] = self.png(nodes["2"]["inputs"]["text"], nodes["1"]["inputs"]["noise_seed"])
        return {"prompt_id": job, "number": 0, "node_errors": {}}


_ALONE = threading.Lock()
_FILES: dict[tuple[str, int], bytes] = {}


@contextmanager
def serving(dialect, generator, **settings):
    server = StandIn(dialect, generator, **settings)
    try:
        yield server
    finally:
        server.stop()


# --- faults ------------------------------------------------------------------------------------------------------


def html(handler):
    handler.send(200, b"<!doctype html><title>Sign in</title>", "text/html")
    return True


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"images": ["iVBOR')
    handler.wfile.flush()
    handler.close_connection = True
    return True


def says(content, status=200, **headers):
    return lambda handler: handler.send(status, content, **headers) or True


def hung(handler):
    time.sleep(5)
    return True


def trickle(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" ")
        time.sleep(0.1)
    return True

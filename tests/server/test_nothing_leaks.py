"""What the server must never do, whatever it is asked: open what a request names, or say what it must not."""

import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import cycle
from threading import Thread

import pytest
from starlette.testclient import TestClient

from neuroprompt.server.app import create_app
from neuroprompt.server.settings import ServeSettings


@pytest.fixture
def bait(tmp_path):
    """An address where somebody listens, a folder of a model whose files are pipes, and what of them was opened."""
    connections = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            connections.append(self.client_address)

    names = ["model_index.json", "config.json", "model.safetensors", "prompts.txt"]
    for name in names:
        os.mkfifo(tmp_path / name)
    listener = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listener.serve_forever, daemon=True).start()

    def opened():
        found = list(connections)
        for name in names:
            try:  # succeeds where somebody has it open for reading, or waits to
                os.close(os.open(tmp_path / name, os.O_WRONLY | os.O_NONBLOCK))
                found.append(name)
            except OSError:
                pass
        return found

    yield f"http://127.0.0.1:{listener.server_port}/model", tmp_path, opened
    listener.shutdown()
    listener.server_close()


REQUESTS = {
    "/v1/enhance": ("EnhanceRequest", {"prompts": "a cat", "max_new_tokens": 4, "num_beams": 1}),
    "/v1/score": ("ScoreRequest", {"prompt": "a cat", "pictures": ["aGVsbG8="]}),
    "/v1/images/generations": ("ImagesRequest", {"prompt": "a cat", "steps": 1, "enhance": False}),
    "/v1/duels": ("DuelRequest", {"prompt": "a cat", "steps": 1}),
    "/v1/votes": ("VoteRequest", {"duel": "another", "choice": "tie"}),
    "/sdapi/v1/txt2img": ("Txt2ImgRequest", {"prompt": "a cat", "steps": 1, "enhance": False}),
}
FOREIGN = ("model", "generator", "url", "image", "input", "workflow", "script_name", "init_images", "webhook_url")


def test_no_path_address_or_model_of_a_request_is_opened(server, bait):
    """In every field that there is, and in some that other servers read; where it is text, it is no more than text."""
    address, folder, opened = bait
    schemas = server.get("/openapi.json").json()["components"]["schemas"]
    names = cycle([address, str(folder), f"<lora:{folder}/config.json:1>"])
    statuses = set()

    def ask(path, body):
        statuses.add(server.post(path, body).status_code)

    for path, (schema, body) in REQUESTS.items():
        for field in schemas[schema]["properties"]:
            named = next(names)
            ask(path, body | {field: [named] if field in ("require", "forbid", "auto", "pictures") else named})
        for named in (address, str(folder)):
            ask(path, body | dict.fromkeys(FOREIGN, named))
    for named in (address, str(folder)):
        options = {"sd_model_checkpoint": named, "sd_vae": named, "outdir_samples": named}
        ask("/sdapi/v1/options", options)
        scripts = {"override_settings": options, "alwayson_scripts": {named: {"args": [named]}}}
        ask("/sdapi/v1/txt2img", REQUESTS["/sdapi/v1/txt2img"][1] | scripts)
        statuses.add(server.get("/v1/modifiers", params={"search": named, "category": named}).status_code)
        statuses.add(server.get(f"/{named}").status_code)
    assert opened() == []
    assert statuses == {200, 404, 422}


def test_what_is_asked_is_said_to_the_asker_alone(server):
    """Not in the log, metrics, descriptions; whether it was answered, refused, or nothing at all."""
    began, word = len(server.log.read_text()), "qzunmistakableqz"
    assert word in server.post("/v1/enhance", {"prompts": f"a {word}", "num_return_sequences": 2}).text
    assert server.post("/sdapi/v1/txt2img", {"prompt": f"a {word}", "steps": 1}).ok
    assert word not in (duel := server.post("/v1/duels", {"prompt": f"a {word}", "steps": 1})).text
    assert word in server.post("/v1/votes", {"duel": duel.json()["id"], "choice": "tie"}).text
    assert not server.post("/v1/enhance", {"prompts": "a cat", word: word}).ok
    assert not server.post("/v1/enhance", {"prompts": f"a {word}", "style": word, "forbid": [word]}).ok
    assert not server.post("/v1/images/generations", data=json.dumps({"prompt": word})[:-1]).ok
    assert not server.get(f"/{word}?{word}={word}", headers={"User-Agent": word, "X-Request-Id": word}).ok
    said = [server.get(path).text for path in ("/metrics", "/info", "/readyz", "/sdapi/v1/progress", "/openapi.json")]
    assert word not in "".join([*said, server.log.read_text()[began:]])


def test_keys_are_compared_whole(monkeypatch, tmp_path):
    """All of them, by a comparison that takes as long however far a guess is right; and no answer tells one."""
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *keys: compared.append(keys) or compare(*keys))
    (tmp_path / "keys").write_text("first-key\nsecond-key\n")
    settings = ServeSettings(api_keys_file=str(tmp_path / "keys"), generator="none", rewards="none")
    client = TestClient(create_app(settings))
    for given, status in (("first-key", 200), ("second-key", 200), ("first-kez", 401), ("", 401), ("ß", 401)):
        answer = client.get("/info", headers={"Authorization": f"Bearer {given}".encode()})
        assert answer.status_code == status and "-key" not in answer.text
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert [key for _, key in compared[-2:]] == [b"first-key", b"second-key"]
    assert len(compared) == 10

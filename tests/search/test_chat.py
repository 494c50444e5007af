"""A chat model's proposals, from a server of our own."""

import json
import re
import socket
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from neuroprompt.search import Chat
from neuroprompt.search.chat import ChatError, Wish, read_answer
from tests.search.world import World, search


@pytest.fixture
def server():
    """An OpenAI-compatible server; `server.answers`: (status, text) of the next answers, the last one repeated."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append((self.path, dict(self.headers), body))
            answers = self.server.answers
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.requests, httpd.answers = [], [(200, "golden mood, golden detail\n2. soft mood, vivid paint")]
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@contextmanager
def socket_that_says_nothing():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def test_a_chat_models_proposals_are_drawn_and_kept(server, tmp_path):
    chat = Chat(server.url, "tiny", api_key="secret")
    world, state = World(), tmp_path / "s.json"
    result = search("a castle", "bayes", 24, world, chat=chat, state=state)
    assert "a castle, golden mood, golden detail" in {text for text, _, _ in world.drawn}
    path, headers, body = server.requests[-1]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "tiny" and "a castle" in body["messages"][0]["content"]
    contents = [body["messages"][0]["content"] for _, _, body in server.requests]
    shown = [re.findall(r"^([+-]\d\.\d{3})  (a castle.*)$", content, re.MULTILINE) for content in contents]
    assert shown[0] == [] and len({tuple(best) for best in shown}) > 2  # the model learns from what was drawn
    for best in shown:
        assert {text for _, text in best} <= {text for text, _, _ in world.drawn}
        assert [float(value) for value, _ in best] == sorted(float(value) for value, _ in best)  # the best last
    assert "secret" not in state.read_text()
    asked = len(server.requests)
    assert search("a castle", "bayes", 24, World(), chat=chat, state=state) == result
    assert len(server.requests) == asked  # its answers are in the state


def test_a_busy_server_is_asked_again(server):
    server.answers = [(503, ""), (429, ""), (200, "soft mood, vivid paint")]
    assert Chat(server.url, "tiny")([Wish("a castle", [])], 0) == [[("soft mood", "vivid paint")]]
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 404, 302])
def test_a_refusal_is_said_once_and_the_search_goes_on(server, status):
    server.answers = [(status, "")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = search(["a castle", "a fox"], "bayes", 16, chat=Chat(server.url, "tiny", connections=1))
    assert [f"HTTP {status}" in str(w.message) for w in caught] == [True]
    assert len(server.requests) == 1
    assert result == search(["a castle", "a fox"], "bayes", 16)


def test_an_answer_without_end_is_not_read(server):
    server.answers = [(200, "golden mood, " * 100_000)]
    with pytest.raises(ChatError, match="gave no chat completion"):
        Chat(server.url, "tiny").ask("a castle", 0)


def test_no_password_of_the_user_goes_to_the_server(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for key in (None, "secret"):
        Chat(server.url, "tiny", api_key=key).ask("a castle", 0)
    assert [headers.get("Authorization") for _, headers, _ in server.requests] == [None, "Bearer secret"]


def test_an_absent_or_silent_server_does_not_stop_the_search(server):
    with pytest.warns(UserWarning, match="without the chat model"):
        assert Chat("http://127.0.0.1:9/v1", "tiny", retries=0)([Wish("a castle", [])], 0) == [[]]
    with socket_that_says_nothing() as url, pytest.warns(UserWarning, match="without the chat model"):
        began = time.monotonic()
        assert Chat(url, "tiny", retries=0, timeout=0.2)([Wish("a castle", [])], 0) == [[]]
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["localhost:8080", "file:///etc/passwd", "ftp://host/v1", ""])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="no URL of a chat model"):
        Chat(url, "tiny")


def test_what_a_chat_model_writes():
    answer = """<think>
    golden, silver, bronze
    </think>Here are some ideas:
    ```
    1. **Boy on a horse, oil painting, dramatic light**
    - "by alphonse mucha, art nouveau"
    (3) 8k, this is not a modifier but a very long sentence about things
    watercolor
    ```"""
    assert read_answer(answer, "boy on a horse") == [
        ("oil painting", "dramatic light"),
        ("by alphonse mucha", "art nouveau"),
    ]

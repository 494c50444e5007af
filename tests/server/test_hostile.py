"""What the server outlives: bodies that were made to hurt, and HTTP that is none, all against one server, which must be
the same processes afterwards, ready, and have said nothing of what it was sent."""

import gzip
import json
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECRET = "zqunmistakablezq"
"""In every body here, and nowhere else."""
ROUTES = ("/v1/enhance", "/v1/score", "/v1/images/generations", "/v1/duels", "/v1/votes")
ROUTES += ("/sdapi/v1/txt2img", "/sdapi/v1/options")
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def target(server):
    parts = ("policy", "generator", "rewards")
    before, began = [[process.pid for process in server.workers(part)] for part in parts], len(server.log.read_text())
    yield server
    assert server.get("/readyz").status_code == 200
    assert [[process.pid for process in server.workers(part)] for part in parts] == before
    assert server.post("/v1/enhance", {"prompts": "a cat"}).json()["results"][0][0]["original"] == "a cat"
    said = server.log.read_text()[began:] + server.get("/metrics").text + server.get("/info").text
    assert SECRET not in said and server.key not in said


def message(answer):
    """Of an error, in either dialect."""
    body = answer.json()
    return body["error"]["message"] if isinstance(body["error"], dict) else body["errors"]


BODIES = {
    "a deep list": b'{"prompts": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"prompts": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "deep and cut": b"[" * 100_000,
    "a prompt of 1 MB": json.dumps({"prompts": SECRET * 60_000, "prompt": SECRET * 60_000}).encode(),
    "a phrase of 1 MB": json.dumps({"prompts": SECRET, "prompt": "", "require": [SECRET * 60_000]}).encode(),
    "200,000 phrases": json.dumps({"prompts": SECRET, "prompt": "", "forbid": ["x"] * 200_000}).encode(),
    "50,000 keys": json.dumps({"prompt": ""} | {f"{SECRET}{i}": 1 for i in range(50_000)}).encode(),
    "cut": b'{"prompts": "' + SECRET.encode(),
    "nothing": b"",
    "a string": b'"' + SECRET.encode() + b'"',
    "no UTF-8": b'{"prompts": "' + SECRET.encode() + b'\xff\xfe", "prompt": "\xff"}',
    "half a character": rb'{"prompts": "\ud800", "prompt": "\ud800", "\ud800": 1}',
    "half a negative": rb'{"prompts": 7, "prompt": "a cat", "negative_prompt": "\ud800"}',
    "NaN": b'{"prompts": "a cat", "temperature": NaN, "cfg_scale": NaN, "guidance": NaN, "prompt": "a cat"}',
    "1e999": b'{"prompts": "a cat", "temperature": 1e999, "cfg_scale": -1e999, "guidance": 1e999, "prompt": "a cat"}',
    "5,000 digits": b'{"prompts": "a", "prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    "1e300 beams": b'{"prompts": "a", "num_beams": 1e300, "width": 1e300, "n": 1e300, "prompt": "a"}',
    "a key twice": b'{"prompts": "a cat", "prompts": 7, "prompt": "a cat", "prompt": 7}',
    "a gzip bomb": gzip.compress(b" " * 100_000_000),
}


@pytest.mark.parametrize("route", ROUTES)
def test_bodies_that_were_made_to_hurt(target, route):
    """Each is refused in a line, at once; what A1111's options are not asked for, they do not look at."""
    front = psutil.Process(target.process.pid)
    before = front.memory_info().rss
    for name, body in BODIES.items():
        encoding = {"Content-Encoding": "gzip"} if name == "a gzip bomb" else {}
        began = time.monotonic()
        answer = target.post(route, data=body, headers=JSON | encoding)
        assert time.monotonic() - began < 20, name
        if not (route.endswith("options") and answer.status_code == 200):
            assert answer.status_code in (400, 422), (name, answer.status_code, answer.text[:300])
            assert "\n" not in message(answer) and len(message(answer)) < 500, (name, answer.text[:1000])
    assert front.memory_info().rss - before < 100e6


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml", ""])
def test_a_body_of_another_type(target, content_type):
    """A page can send these without asking first (CORS), and none is taken for JSON."""
    for route in ROUTES:
        answer = target.post(
            route, data=b'{"prompts": "a cat", "prompt": "a cat"}', headers={"Content-Type": content_type}
        )
        assert answer.status_code == 422 and "\n" not in message(answer)


FIELDS = ["prompts", "prompt", "pictures", "style", "require", "forbid", "auto", "seed", "num_beams", "temperature",
          "top_k", "window", "constraints", "stream", "sd_model_checkpoint", "override_settings"]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SECRET) | st.binary().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=6).map(
    lambda body: json.dumps(body | {"width": 7, "size": "7"}).encode()  # nothing is drawn of it
)


@st.composite
def damaged(draw):
    body = bytearray(draw(bodies))
    for place in draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        body[place] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


def bombard(target, route, body):
    answer = target.post(route, data=body, headers=JSON)
    if not (route.endswith("options") and answer.status_code == 200):
        assert answer.status_code in (400, 404, 422) and "\n" not in message(answer), answer.text


bombarding = given(route=st.sampled_from(ROUTES), body=bodies | damaged())
relaxed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@bombarding
@settings(suppress_health_check=relaxed)
def test_any_body(target, route, body):
    bombard(target, route, body)


@pytest.mark.exhaustive
@bombarding
@settings(suppress_health_check=relaxed, max_examples=1000)
def test_a_thousand_bodies(target, route, body):
    bombard(target, route, body)


# --- HTTP ------------------------------------------------------------------------------------------------------------

POST = b"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BROKEN = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 200,
    "another version": b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "length and chunks": POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n",
    "an endless chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}",
    "no chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a header of 1 MB": b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "a path of 1 MB": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL": b"GET /\x00 HTTP/1.1\r\nHost: \x00\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n: c\r\n\r\n",
    "a length of 19 digits": POST + b"Content-Length: 9999999999999999999\r\n\r\n{}",
    "garbage behind": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"\x01\x02 garbage\r\n\r\n",
    "cut": POST + b"Content-Length: 100\r\n\r\n{",
}


def exchange(target, sent, seconds=20):
    """All that comes back on a connection that sends this and no more."""
    address = urlsplit(target.url)
    with closing(socket.create_connection((address.hostname, address.port), seconds)) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while data := connection.recv(65536):
                received += data
        except OSError:  # it was closed while we were still writing
            return b""
        return received


def test_http_that_is_none(target):
    for name, sent in BROKEN.items():
        received = exchange(target, sent)
        statuses = [line.split()[1] for line in received.splitlines() if line.startswith(b"HTTP/1.1 ")]
        if name == "garbage behind":
            assert statuses[:1] == [b"200"] and set(statuses) <= {b"200", b"400"}
        else:
            assert all(status[:1] == b"4" for status in statuses) and len(statuses) <= 1, (name, received[:300])
        assert target.get("/livez").ok, name


def test_who_sends_slowly_holds_up_nobody(target):
    address = urlsplit(target.url)
    slow = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
        assert target.post("/v1/enhance", {"prompts": "a dog"}).ok
    finally:
        for connection in slow:
            connection.close()


def test_a_body_that_does_not_come_is_given_up(start):
    nothing = ("--generator", "none", "--rewards", "none", "--model", "/nonexistent", "--fallback", "plain")
    with start(*nothing, "--timeout", "1") as other:
        address = urlsplit(other.url)
        with closing(socket.create_connection((address.hostname, address.port), 30)) as connection:
            head = POST.replace(b"Host: x", f"Host: {address.netloc}".encode())
            connection.sendall(head + b"Content-Length: 100\r\n\r\n{")
            assert connection.recv(65536).startswith(b"HTTP/1.1 504 ")
        assert other.get("/livez").ok

import asyncio
import json
import signal
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image
from starlette.testclient import TestClient

from neuroprompt import Constraints
from neuroprompt.enhancer import Decoding, EnhancedPrompt
from neuroprompt.server.app import create_app
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.rewriting import rewrite
from neuroprompt.server.schemas import DecodingSettings, Wish
from neuroprompt.server.settings import JUDGES, ServeSettings
from neuroprompt.server.workers import Workers
from tests.test_cli import command  # noqa: F401 (a fixture)

FRONT = ("--generator", "none", "--rewards", "none")  # no more than a policy to be loaded


def png(colour="teal"):
    file = BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return b64encode(file.getvalue()).decode()


# --- what is answered --------------------------------------------------------------------------------------------


def test_requests_have_the_librarys_fields_and_defaults():
    of_operator = {"never_add", "anywhere", "batch_size"}
    assert set(Wish.model_fields) == {field.name for field in fields(Constraints)} - of_operator
    of_library = {field.name: field.default for field in fields(Decoding) if field.name not in of_operator} | {
        "keep": []
    }
    assert {name: field.default for name, field in DecodingSettings.model_fields.items()} == of_library


def test_answers_are_the_librarys(server, enhancer):
    prompts, wish = ["boy on a horse", "a castle"], {"style": "baroque", "forbid": ["blurry"], "auto": ["vibe"]}
    answer = server.post("/v1/enhance", {"prompts": prompts, "num_return_sequences": 2, "seed": 7, **wish}).json()
    made = enhancer(prompts, Constraints(**wish), num_return_sequences=2, seed=7)
    expected = [[variant.to_dict() | {"kept": None} for variant in variants] for variants in made]
    expected = json.loads(json.dumps(expected))
    for variants in (*answer["results"], *expected):
        for variant in variants:
            variant["score"] = pytest.approx(variant["score"], abs=1e-4)
    assert answer["results"] == expected


def test_what_arrives_together_is_decoded_together_and_answers_do_not_tell(server):
    bodies = [{"prompts": f"a {thing}"} for thing in ("cat", "dog", "castle", "ship", "robot", "tree", "lake", "tower")]
    bodies += [{"prompts": "a fox", "seed": 3}, {"prompts": "a fox", "style": "baroque"}] * 2
    bodies += [{"prompts": ["a fox", "a cat"], "do_sample": True}, {"prompts": "a fox", "style": "cubism"}]
    alone = [server.post("/v1/enhance", body).json() for body in bodies]
    batches = server.metric("neuroprompt_batch_size_count", part="policy")
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(lambda body: requests_of(server).post("/v1/enhance", body).json(), bodies))
    for one, other in zip(alone, together, strict=True):
        assert [[v["text"] for v in variants] for variants in one["results"]] == [
            [v["text"] for v in variants] for variants in other["results"]
        ]
    assert server.metric("neuroprompt_batch_size_count", part="policy") - batches < len(bodies)


def test_prompts_of_one_request_may_have_a_seed_each(server):
    prompts, seeds = ["a fox", "a fox", "a castle"], [3, 4, 4]
    together = server.post("/v1/enhance", {"prompts": prompts, "seeds": seeds}).json()["results"]
    for prompt, seed, (variant,) in zip(prompts, seeds, together, strict=True):
        ((alone,),) = server.post("/v1/enhance", {"prompts": prompt, "seed": seed}).json()["results"]
        assert (variant["seed"], variant["text"]) == (seed, alone["text"])
    assert together[0] != together[1]


def test_pictures_are_scored_as_by_the_library(server):
    from neuroprompt.rewards import load_rewards

    answer = server.post("/v1/score", {"prompt": "a teal wall", "pictures": [png(), png("red")]}).json()
    judge = load_rewards(JUDGES, "embedded", "cpu")
    import torch

    pictures = torch.stack(
        [torch.tensor(c)[:, None, None].expand(3, 64, 64) / 255 for c in ((0, 128, 128), (255, 0, 0))]
    )
    expected = judge(["a teal wall"] * 2, pictures)
    assert answer["results"] == [
        {name: pytest.approx(float(scores[i]), abs=1e-3) for name, scores in expected.items()} for i in range(2)
    ]


def test_modifiers_are_listed(server):
    found = server.get("/v1/modifiers?category=artist&search=monet&limit=1").json()["modifiers"]
    assert [(entry["category"], entry["modifier"]) for entry in found] == [("artist", "claude monet")]
    assert {entry["category"] for entry in server.get("/v1/modifiers?limit=1").json()["modifiers"]} == {
        *("artist", "style", "format", "perspective", "booster", "vibe")
    }


@pytest.mark.parametrize(
    "path, body, status, says",
    [
        ("/v1/enhance", {"prompts": ""}, 422, "prompts"),
        ("/v1/enhance", {"prompts": " , "}, 422, "the prompt is empty"),
        ("/v1/enhance", {"prompts": ["a cat"] * 33}, 422, "33 prompts are too many: at most 32"),
        ("/v1/enhance", {"prompts": "a" * 2001}, 422, "2,001 characters in a prompt"),
        ("/v1/enhance", {"prompts": "a cat", "forbid": ["x" * 1001] * 2}, 422, "2,002 characters in phrases"),
        ("/v1/enhance", {"prompts": "a cat", "num_return_sequences": 17}, 422, "17 variants"),
        ("/v1/enhance", {"prompts": "a cat", "num_beams": 17}, 422, "17 beams"),
        ("/v1/enhance", {"prompts": "a cat", "model": "/etc/passwd"}, 422, "model: "),
        ("/v1/enhance", {"prompts": "a cat", "if_better": 1}, 422, "if_better: 1 picture of each cannot tell a gain"),
        (
            "/v1/enhance",
            {"prompts": ["a cat"] * 3, "if_better": 4},
            422,
            "24 pictures, with those of if_better, are too",
        ),
        ("/v1/enhance", {"prompts": "a cat", "seed": "7"}, 422, "seed: "),
        ("/v1/enhance", {"prompts": ["a cat"] * 3, "seeds": [1, 2]}, 422, "2 seeds for 3 prompts: give one for each"),
        ("/v1/enhance", {"prompts": "a cat", "style": "fog", "forbid": ["fog"]}, 422, "'fog' is also forbidden"),
        ("/v1/enhance", {"prompts": "a cat", "do_sample": False, "num_return_sequences": 9}, 422, "5 beams cannot"),
        ("/v1/score", {"prompt": "a cat", "pictures": ["a/../b"]}, 422, "base64"),
        ("/v1/score", {"prompt": "a cat", "pictures": ["aGVsbG8="]}, 422, "this is no picture"),
        ("/v1/score", {"prompt": "a cat", "pictures": [png()] * 33}, 422, "33 pictures are too many"),
        ("/v1/score", {"prompt": "a cat", "pictures": [png()], "texts": ["a"] * 2}, 422, "2 texts for 1 pictures"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/v1/modifiers", {}, 405, "Method Not Allowed"),
    ],
)
def test_what_cannot_be_answered_is_one_line_in_one_shape(server, path, body, status, says):
    answer = server.post(path, body)
    assert answer.status_code == status
    assert status != 405 or answer.headers["Allow"] == "GET"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code"} and says in error["message"] and "\n" not in error["message"]


def test_json_that_is_none_and_json_that_is_deep(server):
    for body in (b'{"prompts": "a cat"', b"[" * 10_000 + b"]" * 10_000, b'{"prompts": "a cat", "seed": ' + b"9" * 5000):
        answer = server.post("/v1/enhance", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_the_description_of_the_api_names_its_errors(server):
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/enhance", "/v1/score", "/v1/modifiers", "/livez", "/readyz", "/metrics", "/info"} <= set(paths)
    assert "security" in paths["/info"]["get"] and "security" not in paths["/livez"]["get"]
    error = paths["/v1/enhance"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/ErrorAnswer"}


# --- how the server is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz"])
def test_who_watches_a_server_may_ask_for_the_head_alone(server, path):
    answer = requests.head(server.url + path)
    assert answer.ok and answer.content == b""


def test_each_part_is_named_and_nothing_secret_is(server):
    assert server.get("/readyz").json()["parts"] == dict.fromkeys(("policy", "generator", "rewards"), "ready")
    info = server.get("/info").json()
    assert info["models"]["policy"] == "embedded" and info["limits"]["max_prompts"] == 32
    assert server.key not in server.get("/info").text + server.log.read_text()


def test_the_front_loads_no_model(server):
    libraries = {Path(mapped.path).name for mapped in psutil.Process(server.process.pid).memory_maps()}
    assert not [name for name in libraries if "torch" in name]


def test_metrics_know_routes_and_nothing_that_was_asked(server):
    before = server.metric("neuroprompt_requests_total", route="/v1/enhance", status="200")
    server.post("/v1/enhance", {"prompts": "an unmistakable zebra", "require": ["unspeakable fog"]})
    server.get("/an-unmistakable-zebra?zebra")
    assert server.metric("neuroprompt_requests_total", route="/v1/enhance", status="200") == before + 1
    assert server.metric("neuroprompt_request_seconds_count", route="/v1/enhance") >= before + 1
    seen = server.get("/metrics").text + server.log.read_text()
    assert "zebra" not in seen and "unspeakable" not in seen


# --- who may ask, and how much -----------------------------------------------------------------------------------


def test_a_key_is_wanted_by_all_but_probes(server):
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer other"}, {"Authorization": "Basic !"}):
        answer = server.post("/v1/enhance", {"prompts": "a cat"}, headers=headers)
        assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
        assert [server.get(path, headers=headers).status_code for path in ("/metrics", "/info", "/x")] == [401] * 3
        assert server.get("/livez", headers=headers).ok
    basic = b64encode(f"user:{server.key}".encode()).decode()  # all that some clients of A1111 can send
    assert server.get("/info", headers={"Authorization": f"Basic {basic}"}).ok


def test_a_body_is_counted_as_it_comes(server):
    chunks = (b" " * 100_000 for _ in range(10_000))  # 1 GB, and no word of it in the head
    try:
        status = server.post("/v1/enhance", data=chunks).status_code
    except requests.RequestException:  # it was closed while we were still writing
        status = 413
    assert status == 413 and next(chunks)
    for body in (b" " * 2_000_001, (b" " * 100_000 for _ in range(50))):  # such as a picture: told why
        answer = requests_of(server).post("/v1/enhance", data=body)
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_long"


def test_a_page_of_another_site_gets_nothing_of_a_server_without_a_key():
    url = "http://127.0.0.1:8765"
    front = {"generator": "none", "rewards": "none"}
    other = TestClient(create_app(ServeSettings(**front)), url)
    for headers, status in (
        ({"Host": "rebound.example:8765"}, 403),
        ({"Host": "localhost.example:8765"}, 403),
        ({"Host": "["}, 403),
        ({"Host": "localhost:8765"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": url}, 200),
    ):
        answer = other.get("/v1/modifiers?limit=1", headers=headers)
        assert answer.status_code == status, headers
        assert "Access-Control-Allow-Origin" not in answer.headers
    other = TestClient(create_app(ServeSettings(**front, cors_origin=["https://example.org"])), url)
    answer = other.get("/v1/modifiers?limit=1", headers={"Origin": "https://example.org"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert other.get("/v1/modifiers?limit=1", headers={"Origin": "https://example.com"}).status_code == 403


def test_too_many_at_once_and_a_minute_are_told_when_to_come_again(start):
    with start(*FRONT, NEUROPROMPT_MAX_CONCURRENT="3", NEUROPROMPT_RATE_LIMIT="8") as other:
        with ThreadPoolExecutor(8) as pool:  # no model is there yet, and those that are let in wait for it
            asked = [pool.submit(requests_of(other).post, "/v1/enhance", {"prompts": "a cat"}) for _ in range(8)]
            other.until(lambda: sum(one.done() for one in asked) == 5)
            refused = [one.result() for one in asked if one.done()]
            assert {one.json()["error"]["code"] for one in refused} == {"overloaded"}
            assert {one.headers["Retry-After"] for one in refused} == {"1"}
            limited = other.get("/info")
            assert limited.status_code == 429 and limited.json()["error"]["code"] == "rate_limited"
            assert 1 <= int(limited.headers["Retry-After"]) <= 8
            assert other.get("/livez").ok  # a probe is answered all the same
            other.process.send_signal(signal.SIGTERM)
            assert [one.result().status_code for one in asked].count(200) == 3  # and none who was let in is forgotten


def test_no_server_where_others_reach_it_without_a_key_nor_at_a_port_in_use(command):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags, says in (
            (("--host", "0.0.0.0"), "host 0.0.0.0 can be reached from other machines: set --api-key"),
            (("--port", port), f"port {port} of 127.0.0.1 is in use"),
            (("--api-keys-file", "/nonexistent"), "/nonexistent: No such file"),
            (("--api-key", "with space"), "a key must be ASCII without spaces"),
            (("--fallback", "hope"), "fallback is 'hope'"),
            (("--model", "/nonexistent"), "there is no folder '/nonexistent'"),
        ):
            code, _, err = command("serve", "--port", "0", *flags)
            assert code == 2 and err.count("\n") == 1 and says in err, err


def test_any_of_the_keys_of_a_file_will_do(tmp_path):
    file = tmp_path / "keys"
    file.write_text("first\nsecond\n")
    settings = ServeSettings(host="0.0.0.0", api_keys_file=str(file), api_key="third")
    assert settings.keys == ("third", "first", "second") and "third" not in repr(settings)
    assert create_app(settings).openapi()["paths"]["/info"]["get"]["security"]


# --- what is down ------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_takes_only_its_requests_with_it_and_the_server_ends_whole(start):
    with start(*FRONT) as other:
        other.ready()
        (worker,) = other.workers("policy")
        with ThreadPoolExecutor(4) as pool:

            def ask(prompt):
                return pool.submit(requests_of(other).post, "/v1/enhance", {"prompts": prompt})

            worker.suspend()
            lost = ask("a cat")
            other.until(lambda: other.metric("neuroprompt_batch_size_count") == 1)
            waits = ask("a dog")
            other.until(lambda: other.metric("neuroprompt_queue_length") == 1)
            with pytest.raises(requests.Timeout):  # a client that leaves leaves the queue
                requests.post(f"{other.url}/v1/enhance", json={"prompts": "a fox"}, timeout=0.5)
            other.until(lambda: other.metric("neuroprompt_queue_length") == 1)
            worker.kill()
            assert lost.result().status_code == 503 and lost.result().headers["Retry-After"] == "1"
            assert waits.result().json()["results"][0][0]["original"] == "a dog"
            assert other.metric("neuroprompt_worker_restarts_total", part="policy") == 1
            assert other.metric("neuroprompt_batch_size_sum") == 2  # the fox was never decoded

            (worker,) = other.workers("policy")
            worker.suspend()
            answers = ask("a hen")
            other.until(lambda: other.metric("neuroprompt_batch_size_count") == 3)
            other.process.send_signal(signal.SIGTERM)
            other.until(lambda: not listens(other.url))  # nobody new is let in, and
            worker.resume()
            assert answers.result().json()["results"][0][0]["original"] == "a hen"  # what was asked is answered
            assert other.process.wait(30) == 0


def test_no_worker_outlives_a_server_that_is_killed(start):
    with start(*FRONT) as other:
        (worker,) = other.workers("policy")
        other.until(lambda: worker.memory_info().rss > 2e8)  # it has begun
        worker.suspend()  # and does not even read that its input has ended
        other.process.kill()
        other.process.wait()
        worker.wait(10)


@pytest.mark.parametrize("fallback, tail", [("plain", ""), ("suffix", ", ")])
def test_a_fallback_adds_what_is_required_and_nothing_that_is_forbidden(fallback, tail):
    workers = Workers(ServeSettings(generator="none", rewards="none", fallback=fallback), Metrics())
    workers.parts["policy"].states = ["failed"]
    prompts, wish = ["boy on a horse", "a castle"], {"require": ["fog"], "forbid": ["highly detailed"]}
    results = asyncio.run(rewrite(workers, prompts, wish, {"num_return_sequences": 2}))
    for prompt, (made, again) in zip(prompts, results, strict=True):
        assert made == again and made["warning"].startswith("the policy is down")
        assert made["text"].startswith(f"{prompt}, fog{tail}") and bool(made["modifiers"][1:]) == bool(tail)
        assert made["constraints"]["matches"][0]["phrase"] == "fog" and "highly detailed" not in made["text"]
        assert "artist" not in {modifier["category"] for modifier in made["modifiers"]}
    assert set(made) == {field.name for field in fields(EnhancedPrompt)} | {"kept"}
    assert made["negative"] == "highly detailed"


def test_without_a_policy_the_server_answers_where_the_operator_says_so(start):
    with start(*FRONT, "--model", "/nonexistent", "--fallback", "suffix") as other:
        ((made,),) = other.post("/v1/enhance", {"prompts": "boy on a horse"}).json()["results"]
        assert made["text"].startswith("boy on a horse, trending on artstation") and made["warning"]
        assert other.post("/v1/enhance", {"prompts": " "}).status_code == 422
        assert other.get("/readyz").json() == {"status": "ready", "parts": {"policy": "failed"}}


def requests_of(server):
    """The server, for a thread of its own."""
    return type(server)(server.url, server.key, server.process, server.log)


def listens(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0

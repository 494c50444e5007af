"""OpenAI's own client, and Open WebUI's requests, get what they expect: the pictures that are drawn in process, too."""

import asyncio
import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from neuroprompt.images import ImageGenerator
from neuroprompt.server.app import create_app
from neuroprompt.server.errors import Problem
from neuroprompt.server.generators import Describe, Draw, RemotePart
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.settings import ServeSettings


def opened(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def pixels(encoded: str) -> np.ndarray:
    """(height, width, 3), 0 to 255"""
    return np.asarray(opened(encoded), np.int16)


def assert_same(encoded: str, image) -> None:
    """To 1/255, which is what rounding may make of it."""
    expected = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.int16)
    assert np.abs(pixels(encoded) - expected).max() <= 1


def test_what_is_forbidden_is_in_the_negative_prompt_of_the_rewrites_picture(server, enhancer, generator):
    asked = {"prompt": "a castle\nNegative prompt: text", "seed": 3, "negative_prompt": "people"}
    asked |= {"constraints": {"forbid": ["fog"]}, "rewriter": {"model": "embedded"}}
    (made,) = server.post("/v1/images/generations", asked).json()["data"]
    assert made["revised_prompt"].startswith("a castle, ")
    (image,) = generator.draw([made["revised_prompt"]], [3], ["people, text, fog"]).images
    assert_same(made["b64_json"], image)
    assert "\nNegative prompt: people, text, fog\n" in opened(made["b64_json"]).info["parameters"]


def client_of(server, **settings) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", **{"api_key": server.key, "max_retries": 0, **settings})


@pytest.fixture(scope="module")
def generator():
    return ImageGenerator.from_pretrained("embedded", device="cpu")


def test_openais_client_gets_the_rewrite_and_the_pictures_of_it(server, enhancer, generator):
    client = client_of(server)
    made = client.images.generate(
        model="gpt-image-1", prompt="boy on a horse", n=2, quality="hd", user="me", extra_body={"seed": 5}
    )
    text = enhancer("boy on a horse").text
    assert made.created > 1.7e9 and made.output_format == "png" and made.size == "64x64"
    for item, image in zip(made.data, generator([text] * 2, [5, 6]), strict=True):
        assert item.revised_prompt == text and item.url is None
        assert_same(item.b64_json, image)
    info = Image.open(io.BytesIO(base64.b64decode(made.data[1].b64_json))).info
    assert json.loads(info["neuroprompt"])["original"] == "boy on a horse" and "Seed: 6," in info["parameters"]
    assert [model.id for model in client.models.list()] == ["embedded"]


def test_what_openai_lacks(server, enhancer, generator):
    settings = {"seed": 2**40, "steps": 3, "guidance": 5.0, "negative_prompt": "red", "size": "64x32"}
    plain = server.post("/v1/images/generations", {"prompt": "a fox", "enhance": False, **settings}).json()
    drawn = ImageGenerator.from_pretrained(
        "embedded", device="cpu", steps=3, guidance=5.0, negative="red", size="64x32"
    )
    assert plain["data"][0]["revised_prompt"] == "a fox"
    assert_same(plain["data"][0]["b64_json"], drawn(["a fox"], [2**40])[0])
    body = {"prompt": "a fox", "constraints": {"style": "baroque", "forbid": ["8k"]}, "response_format": "url"}
    (asked,) = server.post("/v1/images/generations", body).json()["data"]
    assert "baroque" in asked["revised_prompt"] and "8k" not in asked["revised_prompt"]
    head, _, picture = asked["url"].partition(",")
    assert head == "data:image/png;base64" and "b64_json" not in asked
    assert_same(picture, generator.draw([asked["revised_prompt"]], [asked["seed"]], ["8k"]).images[0])


def test_a_picture_does_not_depend_on_who_else_asks(server):
    fast = {"enhance": False, "steps": 2}
    bodies = [fast | {"prompt": f"a {thing}", "seed": 1} for thing in ("cat", "dog", "ship", "tree", "lake", "robot")]
    bodies += [fast | {"prompt": "a fox", "seed": 2, **other} for other in ({"steps": 3}, {"n": 3})]

    def ask(body):
        answer = client_of(server).images.generate(prompt=body["prompt"], n=body.get("n", 1), extra_body=body)
        return [pixels(item.b64_json) for item in answer.data]

    alone = [ask(body) for body in bodies]
    batches = server.metric("neuroprompt_batch_size_count", part="generator")
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(ask, bodies))
    assert server.metric("neuroprompt_batch_size_count", part="generator") - batches < len(bodies)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(np.stack(one) - np.stack(other)).max() <= 1


def test_a_stream_says_how_far_it_is(server):
    client, asked = client_of(server), {"seed": 4, "enhance": False}
    whole = client.images.generate(prompt="a castle", n=2, extra_body=asked)
    events = list(client.images.generate(prompt="a castle", n=2, stream=True, extra_body=asked))
    kinds = ["rewritten", "completed", "completed", "done"]
    assert [event.type for event in events] == [f"image_generation.{kind}" for kind in kinds]
    for event, item in zip(events[1:3], whole.data, strict=True):
        assert np.abs(pixels(event.b64_json) - pixels(item.b64_json)).max() <= 1
    assert events[2].index == 1 and events[2].pictures == 2 and events[0].revised_prompt == "a castle"
    heard = server.post("/v1/images/generations", {"prompt": "a cat"}, headers={"Accept": "text/event-stream"})
    assert heard.headers["content-type"].startswith("text/event-stream")
    with pytest.raises(openai.UnprocessableEntityError, match="the prompt is empty"):
        client.images.generate(prompt=" , ", stream=True)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"n": 17}, "17 pictures are too many: at most 16"),
        ({"n": 9, "extra_body": {"if_better": 4}}, "17 pictures, with those of if_better, are too many: at most 16"),
        ({"size": "4096x4096"}, "16,777,216 pixels are too many"),
        ({"size": "60x60"}, "multiples of 8 pixels, such as 64x64"),
        ({"size": "big"}, "size: "),
        ({"extra_body": {"guidance": 0.0, "negative_prompt": "red"}}, "negative has no effect without guidance"),
        ({"extra_body": {"constraints": {"style": "8k", "forbid": ["8k"]}}}, "is also forbidden"),
        ({"extra_body": {"constraints": {"file": "/etc/passwd"}}}, "constraints: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_drawn_is_said(server, asked, message):
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client_of(server).images.generate(prompt="a cat", **asked)
    assert message in error.value.message and error.value.code == "invalid_request"


def test_a_wrong_key(server):
    with pytest.raises(openai.AuthenticationError):
        client_of(server, api_key="another").images.generate(prompt="a cat")


def test_open_webui_over_openais_api(server):
    """Its body (routers/images.py, `image_generations`): a model of OpenAI's, whatever it was told."""
    body = {"model": "dall-e-2", "prompt": "a lighthouse", "n": 1, "size": "64x64", "response_format": "b64_json"}
    answer = server.post("/v1/images/generations?api-version=2024-02-01", body)
    assert answer.ok
    (image,) = answer.json()["data"]
    assert image.get("url") is None and pixels(image["b64_json"]).shape == (64, 64, 3)


def test_a_generator_behind_a_url_draws_and_its_files_are_passed_on(server, start):
    body = {"prompt": "a castle", "seed": 9, "n": 3, "enhance": False}
    own = server.post("/v1/images/generations", body).json()
    flags = ("--generator", server.url, "--rewards", "none", "--model", "/nonexistent", "--fallback", "plain")
    with start(*flags, NEUROPROMPT_GENERATOR_API_KEY=server.key) as proxy:
        proxy.until(lambda: proxy.get("/readyz").json()["parts"]["generator"] == "ready")
        passed = [item["b64_json"] for item in proxy.post("/v1/images/generations", body).json()["data"]]
        asked = {"prompt": "a castle", "seed": 9, "batch_size": 3, "enhance": False}
        passed += proxy.post("/sdapi/v1/txt2img", asked).json()["images"]
        for file, item in zip(passed, own["data"] * 2, strict=True):  # in other batches, up to rounding
            assert np.abs(pixels(file) - pixels(item["b64_json"])).max() <= 1
            assert opened(file).info["parameters"] == opened(item["b64_json"]).info["parameters"]
        about, there = proxy.get("/info").json()["generator"], server.get("/info").json()["generator"]
        assert about["name"] == "embedded" and about["config"]["steps"] == there["config"]["steps"]
        refused = proxy.post("/v1/images/generations", body | {"size": "60x60"})
        assert refused.status_code == 424 and "multiples of 8 pixels" in refused.json()["error"]["message"]


def test_without_a_generator_rewriting_goes_on(start, enhancer):
    dead = "http://127.0.0.1:9"
    with start("--generator", dead, "--rewards", "none") as server:
        server.until(lambda: server.get("/readyz").json()["parts"]["generator"] == "failed")
        for path, where in (("/v1/images/generations", "error"), ("/sdapi/v1/txt2img", "detail")):
            down = server.post(path, {"prompt": "a cat"})
            assert down.status_code == 503 and int(down.headers["Retry-After"]) > 0
            assert dead in str(down.json()[where])
        with pytest.raises(openai.InternalServerError, match="no image generator answers"):
            client_of(server, api_key="none").images.generate(prompt="a cat")
        (result,) = server.post("/v1/enhance", {"prompts": "a cat"}).json()["results"][0]
        assert result["text"] == enhancer("a cat").text
        assert server.get("/info").json()["generator"] is None
        assert server.get("/readyz").json()["parts"] == {"policy": "ready", "generator": "failed"}


@pytest.mark.parametrize("says, why", [(b"", "no answer within 0.8 s"), (b"<html>", "is none of")])
def test_a_generator_that_hangs_or_is_none(says, why):
    """As it is about to be asked; the pool's own tests have the rest (tests/images/remote)."""

    async def ask(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if says:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + says)
        else:
            await asyncio.sleep(60)
        writer.close()

    async def meet():
        server = await asyncio.start_server(ask, "127.0.0.1")
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        part = RemotePart(ServeSettings(generator=url, timeout=1), Metrics())
        part.start()
        waiting = asyncio.create_task(part.ask(Draw("a cat", "a cat", 0)))
        for asked in (waiting, part.ask(Describe())):  # one that came before it was known, and one after
            with pytest.raises(Problem, match=why) as error:
                await asyncio.wait_for(asked, 10)
            assert error.value.status == 503 and error.value.retry_after > 0
        assert part.state == "failed"
        await part.stop()

    asyncio.run(meet())


def test_a_server_that_draws_nothing_says_so():
    server = TestClient(create_app(ServeSettings(generator="none", rewards="none")), "http://127.0.0.1")
    for path in ("/v1/images/generations", "/sdapi/v1/txt2img"):
        answer = server.post(path, json={"prompt": "a cat"})
        assert answer.status_code == 503 and "start it with --generator" in answer.text
    for lacks, generator in (("--generator", "none"), ("--rewards", "embedded")):
        unable = TestClient(create_app(ServeSettings(generator=generator, rewards="none")), "http://127.0.0.1")
        answer = unable.post("/v1/enhance", json={"prompts": "a cat", "if_better": 4})
        assert answer.status_code == 503 and f"pictures: start it with {lacks}" in answer.json()["error"]["message"]
    assert server.get("/v1/models").json() == {"object": "list", "data": []}

"""What Open WebUI, SillyTavern and their like ask of A1111's web UI, and read in the answers."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_open_webui(server, enhancer):
    """The calls of its routers/images.py, in their order: verify, list, choose, draw."""
    password = {"authorization": "Basic " + base64.b64encode(f"user:{server.key}".encode()).decode()}

    def ask(method, path, **settings):
        return getattr(server.session, method)(server.url + "/sdapi/v1" + path, headers=password, **settings)

    assert ask("get", "/options").ok
    (model,) = [{"id": one["title"], "name": one["model_name"]} for one in ask("get", "/sd-models").json()]
    options = ask("get", "/options").json()
    assert options["sd_model_checkpoint"] == model["id"]
    assert ask("post", "/options", json=options | {"sd_model_checkpoint": model["name"]}).ok
    data = {
        "prompt": "boy on a horse",
        "batch_size": 2,
        "width": 64,
        "height": 64,
        "steps": 4,
        "negative_prompt": "red",
    }
    answer = ask("post", "/txt2img", json=data | {"sampler_name": "Euler a", "scheduler": "Karras"}).json()
    info = json.loads(answer["info"])
    assert [picture(image).size for image in answer["images"]] == [(64, 64)] * 2
    assert info["all_prompts"] == [enhancer("boy on a horse").text] * 2
    assert info["original_prompt"] == answer["parameters"]["prompt"] == "boy on a horse"
    assert info["all_seeds"] == [info["seed"], info["seed"] + 1]
    for image, infotext in zip(answer["images"], info["infotexts"], strict=True):
        assert picture(image).info["parameters"] == infotext
        assert "Negative prompt: red\nSteps: 4, Sampler: DPM++ 2M, CFG scale: 3.0, Seed:" in infotext


def test_the_same_pictures_as_over_openais_api(server):
    asked = {"prompt": "a castle", "seed": 3, "steps": 3}
    own = server.post("/v1/images/generations", asked | {"n": 4, "guidance": 4.0, "negative_prompt": "red"}).json()
    batched = asked | {"batch_size": 2, "n_iter": 2, "cfg_scale": 4, "negative_prompt": "red"}
    answer = server.post("/sdapi/v1/txt2img", batched).json()
    for image, item in zip(answer["images"], own["data"], strict=True):
        one, other = (np.asarray(picture(encoded), np.int16) for encoded in (image, item["b64_json"]))
        assert np.abs(one - other).max() <= 1
    assert json.loads(answer["info"])["all_seeds"] == [3, 4, 5, 6]


def test_a_negative_prompt_without_guidance_is_put_up_with(server):
    asked = {"prompt": "a cat", "negative_prompt": "blurry", "cfg_scale": 1, "steps": 2, "override_settings": {"x": 1}}
    answer = server.post("/sdapi/v1/txt2img", asked)
    assert answer.ok and json.loads(answer.json()["info"])["negative_prompt"] == ""


def test_nothing_that_is_posted_chooses_a_model(server):
    before = server.get("/sdapi/v1/options").json()
    other = server.post("/sdapi/v1/options", {"sd_model_checkpoint": "/etc/passwd"})
    assert other.status_code == 404 and "draws with embedded" in other.json()["detail"]
    assert server.post("/sdapi/v1/options", {"sd_vae": "x.safetensors", "outdir_samples": "/tmp"}).ok
    assert server.get("/sdapi/v1/options").json() == before


def test_what_else_is_asked(server):
    assert [one["name"] for one in server.get("/sdapi/v1/samplers").json()] == ["DPM++ 2M"]
    assert [one["name"] for one in server.get("/sdapi/v1/schedulers").json()] == ["automatic"]
    for path in ("upscalers", "latent-upscale-modes", "sd-vae", "loras", "hypernetworks", "prompt-styles"):
        assert server.get(f"/sdapi/v1/{path}").json() == []
    assert server.get("/sdapi/v1/cmd-flags").json() == {}
    resting = server.get("/sdapi/v1/progress?skip_current_image=true").json()
    assert resting["progress"] == 0 and resting["state"]["job_count"] == 0


@pytest.mark.parametrize(
    "asked, status, message",
    [
        ({"prompt": ""}, 422, "the prompt is empty"),
        ({"prompt": "a cat", "steps": 0}, 422, "steps: "),
        ({"prompt": "a cat", "width": 60}, 422, "multiples of 8 pixels"),
        ({"prompt": "a cat", "batch_size": 4, "n_iter": 5}, 422, "20 pictures are too many"),
        ({"prompt": "a cat", "width": 16384, "height": 16384}, 422, "pixels are too many"),
    ],
)
def test_errors_have_a1111s_shape(server, asked, status, message):
    answer = server.post("/sdapi/v1/txt2img", asked)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail", "body", "errors"} and message in answer.json()["detail"]

"""The node in a real ComfyUI, where one is named: a prompt in, a picture out, by its own HTTP API.

    NEUROPROMPT_COMFYUI=ComfyUI NEUROPROMPT_COMFYUI_PYTHON=its/python pytest tests/integrations/test_real_comfyui.py

It runs on the CPU, in a folder of its own. What samples there is a node of the test's, which asks our server's images.
"""

import base64
import io
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import requests
from PIL import Image, ImageChops

from tests.integrations.hosts import INTEGRATIONS

COMFYUI = os.environ.get("NEUROPROMPT_COMFYUI")
PORT = 8198
URL = f"http://127.0.0.1:{PORT}"
if not COMFYUI:
    pytest.skip("NEUROPROMPT_COMFYUI names no ComfyUI", allow_module_level=True)

DRAWS = """
import base64, io, json, os, urllib.request
import numpy, torch
from PIL import Image

class DrawOnServer:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "draw", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"forceInput": True}), "seed": ("INT", {})}}

    def draw(self, text, seed):
        body = json.dumps({"prompt": text, "seed": seed, "steps": 2, "enhance": False}).encode()
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["NEUROPROMPT_API_KEY"]}
        request = urllib.request.Request(os.environ["NEUROPROMPT_URL"] + "/v1/images/generations", body, headers)
        picture = json.load(urllib.request.urlopen(request))["data"][0]["b64_json"]
        picture = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        return (torch.from_numpy(numpy.array(picture)).float()[None] / 255,)

NODE_CLASS_MAPPINGS = {"DrawOnServer": DrawOnServer}
"""


@pytest.fixture(scope="module")
def comfyui(server, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("custom_nodes", "models", "input", "output", "user"):
        (base / folder).mkdir()
    (base / "custom_nodes" / "neuroprompt").symlink_to(INTEGRATIONS / "comfyui")
    (base / "custom_nodes" / "draws.py").write_text(DRAWS)
    python = os.environ.get("NEUROPROMPT_COMFYUI_PYTHON", "python")
    with (base / "log").open("w") as log:
        process = subprocess.Popen(
            [python, "main.py", "--cpu", "--port", str(PORT), "--base-directory", str(base), "--disable-api-nodes"],
            cwd=COMFYUI,
            env=os.environ | {"NEUROPROMPT_URL": server.url, "NEUROPROMPT_API_KEY": server.key},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + 600
            while time.monotonic() < end:
                assert process.poll() is None, (base / "log").read_text()
                try:
                    requests.get(f"{URL}/object_info/NeuropromptEnhancePrompt", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(1)
            yield base
        finally:
            process.terminate()
            process.wait(60)


def run(workflow):
    """Queue a workflow, wait for it, and return what ComfyUI's history says of it."""
    queued = requests.post(f"{URL}/prompt", json={"prompt": workflow}).json()
    assert not queued.get("node_errors"), queued
    while not (history := requests.get(f"{URL}/history/{queued['prompt_id']}").json()):
        time.sleep(0.2)
    return history[queued["prompt_id"]]


def workflow(**inputs):
    enhance = {"prompt": "boy on a horse", "seed": 7} | inputs
    return {
        "1": {"class_type": "NeuropromptEnhancePrompt", "inputs": enhance},
        "2": {"class_type": "DrawOnServer", "inputs": {"text": ["1", 0], "seed": 3}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "drawn"}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }


def test_a_prompt_in_a_picture_out(comfyui, server):
    history = run(workflow(style="baroque"))
    assert history["status"]["status_str"] == "success", history
    text = server.post("/v1/enhance", {"prompts": "boy on a horse", "seed": 7, "style": "baroque"}).json()
    text = text["results"][0][0]["text"]
    (added,) = history["outputs"]["4"]["text"]
    assert text == f"boy on a horse, {added}" and "baroque" in added
    (saved,) = history["outputs"]["3"]["images"]
    picture = Image.open(comfyui / "output" / saved["filename"]).convert("RGB")
    asked = {"prompt": text, "seed": 3, "steps": 2, "enhance": False}
    drawn = server.post("/v1/images/generations", asked).json()["data"][0]["b64_json"]
    drawn = Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGB")
    assert picture.size == (64, 64) and max(high for _, high in ImageChops.difference(picture, drawn).getextrema()) <= 1
    assert server.key not in json.dumps(picture.info)  # in which ComfyUI saves the workflow


def test_the_same_inputs_are_not_asked_again(comfyui, server):
    def requests_made():
        return server.metric("neuroprompt_requests_total", route="/v1/enhance")

    run(workflow(seed=11))
    before = requests_made()
    again = run(workflow(seed=11))
    assert requests_made() == before
    assert {"1", "2", "3"} <= {*dict(again["status"]["messages"])["execution_cached"]["nodes"]}
    run(workflow(seed=12))
    assert requests_made() == before + 1


def test_variants_are_drawn_each(comfyui):
    history = run(workflow(variants=3))
    assert len(history["outputs"]["3"]["images"]) == 3


def test_without_a_server_the_node_says_how_to_start_one(comfyui):
    history = run(workflow(server="http://127.0.0.1:9"))
    error = dict(history["status"]["messages"])["execution_error"]
    assert error["node_type"] == "NeuropromptEnhancePrompt"
    assert "start one with `neuroprompt serve" in error["exception_message"]


def test_it_knows_every_node_and_input_of_the_example(comfyui):
    (path,) = (INTEGRATIONS / "comfyui" / "example_workflows").glob("*.json")
    assert requests.get(f"{URL}/api/workflow_templates").json()["neuroprompt"] == [path.stem]
    for node in json.loads(Path(path).read_text())["nodes"]:
        known = requests.get(f"{URL}/object_info/{node['type']}").json()[node["type"]]
        named = {name for group in known["input"].values() for name in group}
        assert {port["name"] for port in node.get("inputs", ())} <= named
        assert [port["type"] for port in node.get("outputs", ())] == known["output"]

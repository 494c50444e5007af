"""The tools of an assistant: in memory with the embedded models, and as a client starts them."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import anyio
import pytest
from mcp import Client
from PIL import Image

from neuroprompt import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.families import FAMILIES
from neuroprompt.gate import Gate
from neuroprompt.image_files import decode_image
from neuroprompt.images import ImageGenerator
from neuroprompt.mcp import BYTES, SIDE, Models, create_server
from neuroprompt.modifiers import CATEGORIES, suggestions
from neuroprompt.pages.grid import read_grid
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.search import SearchConfig, optimize
from tests.checkpoints.policies import qwen3


@pytest.fixture(scope="module")
def models(enhancer):
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    rewards = load_rewards("pickscore:1,clip:0", "embedded", "cpu")
    return Models(lambda _: enhancer, lambda: enhancer, lambda: generator, lambda: rewards)


def call(server, name, on_progress=None, **arguments):
    """A tool's answer: what is structured of it, and all of it."""

    async def ask():
        async with Client(server) as client:
            return await client.call_tool(name, arguments, progress_callback=on_progress)

    answer = asyncio.run(ask())
    return answer.structured_content, answer


def error(server, name, **arguments):
    _, answer = call(server, name, **arguments)
    (said,) = answer.content
    assert answer.is_error and "\n" not in said.text
    return said.text


def described(schema):
    """Each argument of a schema, and of the objects in it, and whether it says what it is."""
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name: bool(field.get("description")) for part in parts for name, field in part["properties"].items()}


def test_tools_say_what_they_take_and_give(models, tmp_path):
    async def list_tools(server):
        async with Client(server) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    tools = asyncio.run(list_tools(create_server(models)))
    assert set(tools) == {"enhance", "modifiers", "score", "grid", "optimize"}
    for tool in tools.values():
        assert tool.title and len(tool.description) > 60 and "\n" not in tool.description
        assert tool.output_schema["properties"] and all(described(tool.input_schema).values())
        assert tool.annotations.read_only_hint and not tool.annotations.open_world_hint
    assert set(CATEGORIES) | {"require", "forbid", "auto"} < set(described(tools["enhance"].input_schema))
    assert not asyncio.run(list_tools(create_server(models, tmp_path)))["grid"].annotations.read_only_hint


def test_enhance_is_the_librarys(models, enhancer):
    server = create_server(models)
    one, _ = call(server, "enhance", prompt="boy on a horse", constraints={"style": "baroque", "forbid": ["8k"]})
    made = enhancer("boy on a horse", Constraints(style="baroque", forbid=["8k"]))
    assert [result["text"] for result in one["results"]] == [made.text]
    assert one["results"][0]["modifiers"] == [modifier._asdict() for modifier in made.modifiers]
    many, _ = call(server, "enhance", prompt="boy on a horse", variants=3, seed=7)
    variants = enhancer("boy on a horse", num_return_sequences=3, seed=7)
    assert [result["text"] for result in many["results"]] == [variant.text for variant in variants]


def test_with_if_better_the_users_words_come_back_where_the_library_says_so(models, enhancer):
    steps = []

    async def on_progress(done, total, message):
        steps.append((done, total))

    found, _ = call(create_server(models), "enhance", on_progress, prompt="a fox", if_better=2, seed=3)
    made = enhancer("a fox", seed=3)
    (verdict,) = Gate(PromptReward(models.generator(), models.rewards(), seed=3), pictures=2)(["a fox"], [made.text])
    (one,) = found["results"]
    assert one["text"] == verdict.text and one["if_better"] == verdict.facts()
    assert one["warning"] == (None if verdict.accepted else f"left as it is: {verdict.reason}")
    assert steps[0] == (0, 4) and steps[-1] == (4, 4)


def test_another_model_is_asked_for_a_family_and_keeps_what_it_is_told_to(models, enhancer, tmp_path):
    chat = PromptEnhancer.from_pretrained(qwen3(tmp_path / "chat", place=4096, size=4352), device="cpu")
    policies = {"embedded": enhancer, "chat": chat}
    server = create_server(replace(models, policy=policies.__getitem__, names=tuple(policies)))
    how = {"model": "chat", "for": "flux", "keep": ["Old Bridge"], "instruction": "Say it in prose."}
    wish = {"forbid": ["ugly"]}
    one, _ = call(server, "enhance", prompt="a fox, Old Bridge", rewriter=how, constraints=wish, negative="people")
    asked = chat.asked("Say it in prose.", FAMILIES["flux"])
    made = asked("a fox, Old Bridge", Constraints(**wish), keep=["Old Bridge"], negative="people")
    (result,) = one["results"]
    assert (result["text"], result["negative"]) == (made.text, "people, ugly") and "Old Bridge" in made.text
    for how, says in (
        ({"model": "other"}, "'other' is not served here: choose from embedded, chat"),
        ({"instruction": "Say it."}, "is no chat model: write {prompt}"),
    ):
        assert says in error(server, "enhance", prompt="a fox", rewriter=how)


def test_modifiers_are_the_libraries(models):
    found, _ = call(create_server(models), "modifiers", category="style", search="art", limit=3)
    assert [(one["modifier"], one["prompts"]) for one in found["modifiers"]] == suggestions("style", 3, "art")


def test_grid_gives_a_picture_that_an_answer_holds_and_writes_nothing(models, enhancer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = []

    async def on_progress(done, total, message):
        steps.append((done, total))

    made, answer = call(
        create_server(models), "grid", on_progress, prompts=["a fox", "a castle"], images_per_prompt=2, seed=3
    )
    assert steps == [(done, 8) for done in range(9)]
    assert [row["rewrite"]["text"] for row in made["rows"]] == [
        one.text for one in enhancer(["a fox", "a castle"], seed=3)
    ]
    assert [row["plain"]["text"] for row in made["rows"]] == ["a fox", "a castle"] and made["file"] is None
    assert all(
        set(row[cell]["scores"]) == {"pickscore", "clip"} for row in made["rows"] for cell in ("plain", "rewrite")
    )
    picture, text = answer.content
    file = base64.b64decode(picture.data)
    assert picture.mime_type == "image/jpeg" and len(file) <= BYTES and json.loads(text.text) == made
    assert 300 < max(Image.open(BytesIO(file)).size) <= SIDE
    assert not [*tmp_path.iterdir()]


def test_pictures_are_scored_and_those_of_the_folder_by_name_alone(models, tmp_path):
    (tmp_path / "in").mkdir()
    server = create_server(models, tmp_path / "in")
    made, _ = call(server, "grid", prompts=["a fox"], rewrites=["a fox, oil painting"])
    sheet = read_grid(tmp_path / "in" / made["file"])
    assert [cell.text for cell in sheet.rows[0]] == ["a fox", "a fox, oil painting"]
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "out.png")
    outside = (tmp_path / "out.png").read_bytes()
    sent = base64.b64encode(outside).decode()
    scores, _ = call(server, "score", prompt="a fox", pictures=[sent, f"data:image/png;base64,{sent}", made["file"]])
    expected = models.rewards().score_picture("a fox", decode_image(outside))
    assert [one == pytest.approx(expected) for one in scores["results"]] == [True, True, False]
    for path in ("../out.png", str(tmp_path / "out.png"), "no.png"):
        assert "is no base64" in error(server, "score", prompt="a fox", pictures=[path])
    assert "is no picture" in error(server, "score", prompt="a fox", pictures=["A" * 1000])  # no name is so long
    assert "is no base64" in error(create_server(models), "score", prompt="a fox", pictures=[made["file"]])


def test_optimize_is_the_librarys_and_says_how_far_it_is(models, enhancer):
    steps = []

    async def on_progress(done, total, message):
        steps.append(done)

    found, _ = call(create_server(models), "optimize", on_progress, prompt="a fox", budget=8, seed=5)
    reward = PromptReward(models.generator(), models.rewards(), images_per_prompt=2, seed=5)
    expected = optimize("a fox", reward, enhancer, SearchConfig(budget=8, seed=5))
    assert found["text"] == expected.text and found["gain"] == pytest.approx(expected.held_out)
    assert found["pictures"] == expected.images + expected.held_out_images
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == found["pictures"]


def test_what_cannot_be_is_the_tools_error_in_a_line(models):
    server = create_server(models)
    assert "the prompt is empty" in error(server, "enhance", prompt=" , ")
    assert error(server, "enhance", promt="a cat") == (
        "enhance takes no 'promt': it takes prompt, variants, seed, constraints, rewriter, negative, if_better"
    )
    assert error(server, "enhance") == "prompt: Field required"
    assert "1 picture of each prompt cannot tell a gain" in error(server, "enhance", prompt="a cat", if_better=1)
    assert error(server, "enhance", prompt="a cat", constraints={"colour": "red"}).startswith("constraints.colour: ")
    assert "is also forbidden" in error(server, "enhance", prompt="a", constraints={"style": "8k", "forbid": ["8k"]})
    assert "give one for each" in error(server, "grid", prompts=["a", "b"], rewrites=["a, 8k"])
    assert "is no picture" in error(server, "score", prompt="a cat", pictures=[base64.b64encode(b"a cat").decode()])
    assert "the prompt is empty" in error(server, "score", prompt=" , ", pictures=["aGVsbG8="])
    assert "Unknown tool" in error(server, "draw")


def test_a_model_that_cannot_be_loaded_is_said_each_time_and_the_rest_goes_on(models):
    def fail(kind):
        raise kind

    missing = ModuleNotFoundError("No module named 'diffusers'", name="diffusers")
    server = create_server(replace(models, generator=lambda: fail(missing)))
    assert 'pip install "neuroprompt[images]"' in error(server, "grid", prompts=["a cat"])
    assert call(server, "enhance", prompt="a cat")[0]["results"]
    server = create_server(replace(models, policy=lambda _: fail(ValueError("there is\nno model"))))
    for _ in range(2):
        assert error(server, "enhance", prompt="a cat").endswith("there is no model")


def test_a_call_that_is_cancelled_ends_and_the_next_is_answered(models):
    drawn = []

    async def main():
        async with Client(create_server(models), mode="legacy") as client:
            async with anyio.create_task_group() as tasks:

                async def on_progress(done, total, message):
                    drawn.append(done)
                    if done:
                        tasks.cancel_scope.cancel()

                arguments = {"prompt": "a fox", "budget": 32}
                tasks.start_soon(client.call_tool, "optimize", arguments, None, on_progress)
            return await client.call_tool("enhance", {"prompt": "a cat"})

    assert asyncio.run(main()).structured_content["results"]
    assert max(drawn) <= 16  # of a batch


OWN = """
import os
def noisy(prompts, images):
    print("a print")
    os.write(1, b"what a library in C says\\n")
    return [0.5] * len(prompts)
"""


def test_standard_output_is_the_protocols_and_a_client_is_answered_before_models_are_loaded(tmp_path):
    """Though a reward of the user's own prints, and one writes where a library in C does."""
    (tmp_path / "own.py").write_text(OWN)
    requests = [
        (
            "initialize",
            {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
        ),
        ("tools/call", {"name": "grid", "arguments": {"prompts": ["a cat"]}}),
        ("tools/list", {}),
    ]
    sent = [{"jsonrpc": "2.0", "id": i, "method": method, "params": of} for i, (method, of) in enumerate(requests)]
    sent.insert(1, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    command = [sys.executable, "-m", "neuroprompt.cli", "mcp", "--rewards", "own.py:noisy", "--steps", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write("".join(json.dumps(message) + "\n" for message in sent))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in requests]
        out, said = process.communicate(timeout=120)  # its input ends, and so does it
    assert out == "" and process.returncode == 0
    assert [answer["id"] for answer in answers] == [0, 2, 1]
    (row,) = answers[2]["result"]["structuredContent"]["rows"]
    assert row["plain"]["scores"] == {"noisy": 0.5}
    assert "a print" in said and "what a library in C says" in said

"""ComfyUI's node, in a stand-in of the few names of ComfyUI's that it uses; `test_real_comfyui.py` has the real one."""

import asyncio
import inspect
import json

import pytest

from neuroprompt.modifiers import vocabulary
from tests.integrations.hosts import INTEGRATIONS, answering, comfy_api, load, planted

WORKFLOW = INTEGRATIONS / "comfyui" / "example_workflows" / "enhance_prompt.json"


@pytest.fixture
def module(server, monkeypatch):
    monkeypatch.setenv("NEUROPROMPT_URL", server.url)
    monkeypatch.setenv("NEUROPROMPT_API_KEY", server.key)
    with planted(**comfy_api()):
        yield load(INTEGRATIONS / "comfyui" / "__init__.py", "comfyui_under_test")


@pytest.fixture
def node(module):
    (node,) = asyncio.run(module.comfy_entrypoint().get_node_list())
    return node


def test_a_prompt_is_enhanced_as_by_the_library(node, enhancer):
    texts, added, warnings, negatives = node.execute("boy on a horse", 7).args
    made = enhancer("boy on a horse", seed=7)
    assert (texts, warnings, negatives) == ([made.text], [""], [""])
    assert added == [made.text.removeprefix("boy on a horse, ")]


def test_wishes_are_met_in_every_variant(node):
    wish = {"style": "baroque", "vibe": "auto", "require": "golden hour|sunset, fog", "forbid": "blurry, 8k"}
    texts, added, _, negatives = node.execute("a castle", 3, variants=3, negative="people", **wish).args
    assert negatives == ["people, blurry, 8k"] * 3
    assert len({*texts}) == 3
    for text, more in zip(texts, added, strict=True):
        assert text == f"a castle, {more}"
        assert {"baroque", "fog"} <= {*more.split(", ")} and {"golden hour", "sunset"} & {*more.split(", ")}
        assert {*more.split(", ")} & {*vocabulary("vibe")} and "8k" not in more


@pytest.mark.parametrize(
    "prompt",
    [
        "(a castle:1.2) on a hill, [fog], ((sunset))",
        "<lora:detail:0.8> a castle <lora:ink:1>",
        "a castle, embedding:EasyNegative, (embedding:bad-hands:1.1)",
        "a {red|blue} castle",
        "a castle \\(toy\\) /* which? */",
        "a castle,\nat night",
    ],
)
def test_comfyuis_own_syntax_stays_as_it_is(node, prompt):
    (text,), (added,), *_ = node.execute(prompt, 0).args
    assert text.startswith(prompt) and len(added.split(", ")) >= 3
    assert not set("()[]{}<>:\\") & set(added)


def test_who_is_asked_and_what_is_kept_is_the_requests(node):
    made = {"text": "A castle of stone.", "modifiers": [], "warning": None, "negative": "fog"}
    wanted = {"model": "retell", "family": "flux", "keep": "ohwx, old bridge", "free": True, "instruction": " Say it. "}
    wanted |= {"if_better": 6}
    with answering(body=json.dumps({"results": [[made]]})) as (url, asked):
        assert node.execute("a castle", 0, server=url, **wanted).args == (["A castle of stone."], [""], [""], ["fog"])
    ((_, body),) = asked
    sent = {"model": "retell", "for": "flux", "keep": ["ohwx", "old bridge"], "keep_words": False, "if_better": 6}
    assert body.items() >= (sent | {"instruction": "Say it."}).items() and "negative" not in body


def test_why_nothing_was_added_is_said(node):
    (text,), (added,), (warning,), _ = node.execute("robot playing guitar", 1, if_better=4).args
    assert (text, added) == ("robot playing guitar", "")
    assert warning.startswith("left as it is: pickscore gains nothing over 1 picture")
    assert node.execute("<lora:ink:1>", 0).args == (
        ["<lora:ink:1>"],
        [""],
        ["left as it is: there is nothing in it to be described"],
        [""],
    )


def test_a_seed_of_another_node_may_be_longer_than_the_servers(node):
    assert node.execute("a castle", 2**64 - 1).args == node.execute("a castle", 2**63 - 1).args


def test_a_server_that_is_not_there_fails_the_node_with_the_command_that_starts_one(node):
    with pytest.raises(RuntimeError, match=r"no neuroprompt server answers at .*: start one with `neuroprompt serve"):
        node.execute("a castle", 0, server="http://127.0.0.1:9")


def test_the_key_is_not_sent_where_a_workflow_says(node):
    with answering(body='{"results": [[{"text": "a castle", "modifiers": [], "warning": null}]]}') as (url, asked):
        node.execute("a castle", 0, server=url)
    ((headers, _),) = asked
    assert "Authorization" not in headers


def test_the_schema_is_whole(node, module):
    schema = node.define_schema()
    inputs, outputs = [port.id for port in schema.inputs], [port.id for port in schema.outputs]
    assert len({*inputs, *outputs}) == len(inputs) + len(outputs)  # which ComfyUI demands
    named = {*inspect.signature(node.execute).parameters} - {"kinds"}
    examples = module.nodes.EXAMPLES
    assert {*inputs} == named | examples.keys()
    for category, example in examples.items():
        assert {*example.split("|")} <= {*vocabulary(category)}
    assert not hasattr(node, "fingerprint_inputs")  # same inputs, same answer: ComfyUI's own cache is right


def test_the_example_names_what_the_node_has(node):
    schema = node.define_schema()
    (used,) = [one for one in json.loads(WORKFLOW.read_text())["nodes"] if one["type"] == schema.node_id]
    assert [port["name"] for port in used["inputs"]] == [port.id for port in schema.inputs]
    assert [port["name"] for port in used["outputs"]] == [port.said["display_name"] for port in schema.outputs]
    assert len(used["widgets_values"]) == len(schema.inputs) + 1  # the seed has "control after generate"

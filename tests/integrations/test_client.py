"""What ComfyUI's node and A1111's script share: the client, and that they need nothing but their host."""

import ast
import json
import sys

import pytest

from neuroprompt.families import FAMILIES
from neuroprompt.modifiers import CATEGORIES, vocabulary
from tests.integrations.hosts import INTEGRATIONS, answering, load

HOSTS = {"comfyui": {"comfy_api"}, "a1111": {"gradio", "modules", "neuroprompt_client"}}
client = load(INTEGRATIONS / "a1111" / "neuroprompt_client.py", "client_under_test")


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_is_imported_but_the_standard_library_and_the_host(host):
    for path in (INTEGRATIONS / host).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | HOSTS[host], path


def test_the_node_has_no_requirements():
    assert "\ndependencies = []\n" in (INTEGRATIONS / "comfyui" / "pyproject.toml").read_text()
    assert not [*INTEGRATIONS.rglob("requirements*.txt"), *INTEGRATIONS.rglob("install.py")]


def test_the_hosts_have_one_client():
    one, other = (INTEGRATIONS / host / "neuroprompt_client.py" for host in ("comfyui", "a1111"))
    assert one.read_bytes() == other.read_bytes()


def test_many_prompts_are_asked_in_the_servers_portions_each_with_its_seed():
    prompts = [f"a cat, {number}" for number in range(70)]
    with answering() as (url, asked):
        made = client.enhance(prompts, url + "/", seeds=range(70), style="baroque")
    assert [one["text"] for (one,) in made] == prompts
    assert [len(body["prompts"]) for _, body in asked] == [32, 32, 6]
    assert [seed for _, body in asked for seed in body["seeds"]] == [*range(70)]
    assert {body["style"] for _, body in asked} == {"baroque"}


def test_prompts_whose_pictures_decide_are_as_many_at_once_as_a_server_draws():
    with answering() as (url, asked):
        client.enhance(["a cat"] * 5, url, num_return_sequences=2, **client.read_asking(if_better=2.0))
        client.enhance(["a cat"], url, **client.read_asking(if_better=16))
    assert [len(body["prompts"]) for _, body in asked] == [2, 2, 1, 1]
    assert {body["if_better"] for _, body in asked} == {2, 16}
    old = json.dumps({"error": {"message": "if_better: Extra inputs are not permitted"}})
    with answering(422, body=old) as (url, _), pytest.raises(client.ServerError, match="older than this: update"):
        client.enhance(["a cat"], url, if_better=4)


def test_what_a_person_typed_is_read():
    wish = client.read_wish("golden hour|sunset, fog\nmist,", " ", style=" baroque ", vibe="Auto", artist="")
    assert wish == {
        "style": "baroque",
        "auto": ["vibe"],
        "require": ["golden hour|sunset", "fog", "mist"],
        "forbid": [],
    }
    assert "auto" not in {term for category in CATEGORIES for term in vocabulary(category)}


def test_the_families_are_the_servers_and_what_is_blank_is_left_to_it(server):
    assert client.FAMILIES == tuple(FAMILIES)
    assert client.read_asking(" ", "any", ", ", False, "", "", None) == {}
    asked = client.read_asking("embedded", "sdxl", "a cat", True, "people")
    ((made,),) = client.enhance(["a cat"], server.url, server.key, **asked)
    assert made["negative"] == "people"
    with pytest.raises(client.ServerError, match="model: 'other' is not served here: choose from embedded"):
        client.enhance(["a cat"], server.url, server.key, **client.read_asking("other"))


@pytest.mark.parametrize(
    "url, says",
    [
        ("http://127.0.0.1:9", "Connection refused): start one with `neuroprompt serve --generator none"),
        ("file:///etc/passwd", "is no address of a neuroprompt server"),
        ("127.0.0.1:8765", "is no address of a neuroprompt server"),
    ],
)
def test_who_is_not_there_is_said_in_a_line(url, says):
    with pytest.raises(client.ServerError, match=r"^[^\n]+$") as caught:
        client.enhance(["a cat"], url)
    assert says in str(caught.value)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"results": 3}'])
def test_another_server_is_said_in_a_line(body):
    with answering(body=body) as (url, _), pytest.raises(client.ServerError, match="is no neuroprompt server"):
        client.enhance(["a cat"], url)


def test_prompt_and_key_are_for_the_server_that_was_named_alone():
    with answering() as (elsewhere, asked), answering(307, headers=[("Location", elsewhere)]) as (url, _):
        with pytest.raises(client.ServerError, match="says 307"):
            client.enhance(["a cat"], url, key="secret")
    assert not asked


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering() as (url, _):
        assert client.enhance(["a cat"], url) == [[{"text": "a cat"}]]


def test_a_refusal_has_the_servers_words(server):
    with pytest.raises(client.ServerError, match=r"says 422: style: the required 'fog' is also forbidden"):
        client.enhance(["a cat"], server.url, server.key, style="fog", forbid=["fog"])
    with pytest.raises(client.ServerError, match=r"says 401: .* NEUROPROMPT_API_KEY"):
        client.enhance(["a cat"], server.url)

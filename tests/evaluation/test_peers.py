import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.evaluation.peers import PeerRewriter
from neuroprompt.models import ModelError, locate
from neuroprompt.policies import PolicyConfig

PROMPTS = ["boy on a horse", "a castle", "robot playing guitar in the rain at night"]


def test_the_published_peers_can_be_read():
    files = sorted(Path("configs/peers").glob("*.yaml"))
    assert {f.stem for f in files} >= {"promptist", "magicprompt", "chat"}
    for file in files:
        peer = PolicyConfig.from_file(file)
        assert asdict(peer)["model"] and "{prompt}" in peer.template
    promptist = PolicyConfig.from_file("configs/peers/promptist.yaml")
    assert promptist.template.replace("{prompt}", "a cat") == "a cat Rephrase:"
    assert (promptist.num_beams, promptist.length_penalty, promptist.max_new_tokens) == (8, -1.0, 75)


def test_continuing_and_replacing():
    common = {"model": "embedded", "max_new_tokens": 12, "template": "{prompt},"}
    rewriter = PeerRewriter(PolicyConfig(**common, output="continue"), device="cpu")
    goes_on = rewriter(PROMPTS)
    rewriter.peer = PolicyConfig(**common)
    anew = rewriter(PROMPTS)
    for prompt, text, other in zip(PROMPTS, goes_on, anew, strict=True):
        assert text.startswith(prompt) and len(text) > len(prompt)
        assert " ".join(text[len(prompt) :].split()) == other


def test_the_text_ends_where_it_should():
    rewriter = PeerRewriter(PolicyConfig(model="embedded", max_new_tokens=12), device="cpu")
    long = rewriter(PROMPTS)
    rewriter.peer = PolicyConfig(model="embedded", max_new_tokens=12, stop=("a", "e"))
    cut = rewriter(PROMPTS)
    for prompt, text, short in zip(PROMPTS, long, cut, strict=True):
        assert short == prompt or (text.startswith(short) and not {"a", "e"} & set(short))


def test_samples_belong_to_prompt_and_seed_not_to_the_batch():
    peer = PolicyConfig(model="embedded", do_sample=True, max_new_tokens=16, output="continue")
    rewriter = PeerRewriter(peer, seed=1, device="cpu")
    whole = rewriter(PROMPTS)
    assert [rewriter([p])[0] for p in PROMPTS] == whole
    rewriter.seed = 2
    assert rewriter(PROMPTS) != whole


def test_the_best_beam_that_is_not_empty(monkeypatch):
    rewriter = PeerRewriter(PolicyConfig(model="embedded", num_beams=3, max_new_tokens=8), device="cpu")
    written = rewriter._generate(PROMPTS, PROMPTS)
    assert [len(of) for of in written] == [3, 3, 3]
    monkeypatch.setattr(rewriter, "_generate", lambda asked, prompts: [[" ", '"a keep"', "no"]] * len(asked))
    assert rewriter(PROMPTS) == ["a keep"] * 3
    monkeypatch.setattr(rewriter, "_generate", lambda asked, prompts: [["", "\n", " "]] * len(asked))
    assert rewriter(PROMPTS) == PROMPTS


def test_a_chat_model_is_asked_through_its_template(tmp_path):
    folder = shutil.copytree(locate("embedded", "policy"), tmp_path / "chat")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    peer = PolicyConfig(
        model=str(folder), chat=True, instruction="Be brief.", template="Improve: {prompt}", max_new_tokens=8
    )
    rewriter = PeerRewriter(peer, device="cpu")
    assert peer.ask(rewriter.tokenizer, "a cat") == "[system] Be brief.\n[user] Improve: a cat\n[assistant]"
    assert all(rewriter(PROMPTS))
    with pytest.raises(ModelError, match="has no chat template"):
        PeerRewriter(PolicyConfig(model="embedded", chat=True), device="cpu")


def test_a_file_is_a_method(tmp_path):
    path = tmp_path / "peer.yaml"
    path.write_text("model: embedded\ntemplate: '{prompt},'\noutput: continue\nmax_new_tokens: 8\n")
    method = parse_methods(f"plain,template:{path}", device="cpu")[1]
    assert method.settings["model"] == "embedded" and method.settings["max_new_tokens"] == 8
    peer = PolicyConfig(model="embedded", template="{prompt},", output="continue", max_new_tokens=8)
    assert method(PROMPTS) == PeerRewriter(peer, device="cpu")(PROMPTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"template": "{prompt}"}, "names no model"),
        ("just text", "holds no keys"),
        ({"model": "m", "tempalte": "{prompt}"}, "unknown key 'tempalte': choose from model, tokenizer"),
        ({"model": "m", "template": "Improve it."}, "must hold {prompt} once"),
        ({"model": "m", "output": "append"}, "output is 'append': it can be replace or continue"),
        ({"model": "m", "instruction": "Be brief."}, "set chat to true"),
        ({"model": "m", "do_sample": True, "num_beams": 4}, "exclude each other"),
        ({"model": "m", "num_beams": 0}, "num_beams is 0"),
        ({"model": "m", "max_new_tokens": "many"}, "max_new_tokens is 'many': that is no int"),
        ({"model": "m", "chat": 1}, "chat is 1: that is no bool"),
        ({"model": "m", "stop": [3]}, "stop is [3]"),
        ({"model": "m", "do_sample": True, "temperature": 0}, "temperature is 0.0: it must be above 0"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, values, message):
    path = tmp_path / "peer.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError) as caught:
        PolicyConfig.from_file(path)
    assert message in str(caught.value) and "peer.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_models_that_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        parse_methods(f"template:{tmp_path / 'none.yaml'}")
    (tmp_path / "broken.yaml").write_text("model: [")
    with pytest.raises(ValueError, match="no YAML"):
        parse_methods(f"template:{tmp_path / 'broken.yaml'}")
    for peer in (
        PolicyConfig(model=str(tmp_path / "none")),
        PolicyConfig(model="nobody/no-such-model", safetensors_only=False),
    ):
        with pytest.raises(ModelError):
            PeerRewriter(peer, device="cpu")


def test_pickled_weights_are_read_only_where_the_file_says_so_and_never_run_code(tmp_path):
    import pickle

    import torch
    from transformers import AutoModelForCausalLM

    alone = shutil.ignore_patterns("reward_model")
    folder = shutil.copytree(locate("embedded", "policy"), tmp_path / "peer", ignore=alone)
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        PeerRewriter(PolicyConfig(model=str(folder)), device="cpu")
    peer = PolicyConfig(model=str(folder), safetensors_only=False, max_new_tokens=8)
    wanted = PeerRewriter(PolicyConfig(model="embedded", max_new_tokens=8), device="cpu")(PROMPTS)
    assert PeerRewriter(peer, device="cpu")(PROMPTS) == wanted

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(ModelError):
        PeerRewriter(peer, device="cpu")
    assert not (tmp_path / "ran").exists()

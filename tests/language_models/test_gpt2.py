"""GPT-2 in NumPy, beside the formulas in float64, and beside torch: the same texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from neuroprompt.decoding import ConstraintError, Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.language_models.gpt2 import GPT2, unlike
from neuroprompt.language_models.tokenizer import Tokenizer
from neuroprompt.models import ModelError, locate
from neuroprompt.policies import FEW, backend_for, open_policy

SUBJECTS = ["a fox", "an old sailor", "a bowl of strawberries", "eine Katze", "Straße, 8k", "🦊 in snow"]
PLACES = ["", " by the sea", " at night, oil painting", " made of glass"]
PROMPTS = [subject + place for subject in SUBJECTS for place in PLACES]
WISHES = [
    Constraints(require=["golden hour|sunset", "fog"], forbid=["blurry"]),
    Constraints(artist="alphonse mucha", forbid=["portrait", "sharp focus"]),
    Constraints(auto=["style", "vibe"]),
    None,
]


@pytest.fixture(scope="module")
def light():
    return PromptEnhancer.from_pretrained(backend="numpy")


@pytest.fixture(scope="module")
def folder():
    return Path(locate("embedded", "policy"))


def reference(folder: Path, ids: list[int]) -> np.ndarray:
    """The log-probabilities of what follows each token, in float64, by the formulas."""
    config, w = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    w = {name.removeprefix("transformer."): value.astype(np.float64) for name, value in w.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_epsilon"])
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for i in range(config["n_layer"]):
        heads = []
        made = np.split(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
        for q, k, v in zip(*(np.split(part, config["n_head"], axis=1) for part in made), strict=True):
            score = np.where(np.tri(len(ids), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
            weight = np.exp(score)
            heads.append(weight / weight.sum(1, keepdims=True) @ v)
        x = x + linear(np.concatenate(heads, axis=1), f"h.{i}.attn.c_proj")
        y = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + linear(y, f"h.{i}.mlp.c_proj")
    logits = norm(x, "ln_f") @ w["wte.weight"].T
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_log_probabilities_are_those_of_float64(light, folder):
    sequences = [light.tokenizer(f"{prompt}, oil painting, highly detailed")["input_ids"] for prompt in PROMPTS[:6]]
    tails = [sequence[len(sequence) // 2 :] for sequence in sequences]
    heads = [sequence[: len(sequence) // 2] for sequence in sequences]
    expected = []
    for head, tail in zip(heads, tails, strict=True):
        of = reference(folder, [*head, *tail])
        expected.append(np.mean([of[len(head) + i - 1, token] for i, token in enumerate(tail)]))
    assert light._writer.score(heads, tails) == pytest.approx(expected, abs=2e-6)  # in one batch of several lengths
    assert light._writer.score(heads[:1], [[]]) == [0.0]


def test_a_step_reads_what_the_whole_text_would(light, folder):
    """Prompts of several lengths, padded, with beams that change places."""
    from neuroprompt.language_models.gpt2 import _Reader

    ids = [light.tokenizer(prompt)["input_ids"] for prompt in ("a fox", "an old sailor by the sea, oil painting")]
    length, more = max(map(len, ids)), light.tokenizer(" made of glass, sharp focus")["input_ids"]
    padded = np.array([[1] * (length - len(own)) + own for own in ids])
    reader = _Reader(
        light.model, padded, np.array([[i >= length - len(own) for i in range(length)] for own in ids]), 99
    )
    logits, rows = reader.prefill(2), np.repeat(padded, 2, axis=0)
    for parent in ([0, 1, 2, 3], [1, 1, 3, 2], [3, 2]):  # at last the first prompt has left
        chosen = np.random.default_rng(0).choice(more, (len(parent), 1))
        rows = np.concatenate([rows[parent], chosen], axis=1)
        logits = reader.step(rows, np.array(parent))
    for row, own in zip(rows, logits.astype(np.float64), strict=True):
        known = own - np.log(np.exp(own).sum())
        assert known == pytest.approx(reference(folder, [i for i in row.tolist() if i != 1])[-1], abs=1e-4)


@pytest.mark.parametrize(
    ("constrained", "settings"),
    [
        (False, {"num_return_sequences": 2, "top_p": 0.9, "seed": 3}),
        (False, {"do_sample": False}),
        (False, {"do_sample": False, "diversity": 0.0, "num_return_sequences": 3, "coherent": False}),
        (True, {"do_sample": False}),
        (True, {"seed": 1}),
    ],
    ids=["sampled", "searched", "plain beams", "constrained", "constrained samples"],
)
def test_texts_are_those_of_torch(light, enhancer, constrained, settings):
    prompts = PROMPTS[::2] if constrained else PROMPTS
    wishes = [WISHES[i % 4] for i in range(len(prompts))] if constrained else None
    expected = enhancer.rewrite(prompts, wishes, max_new_tokens=32, **settings)
    found = light.rewrite(prompts, wishes, max_new_tokens=32, **settings)
    for wanted, own in zip(expected, found, strict=True):
        assert [e.text for e in own] == [e.text for e in wanted]
        assert [e.score for e in own] == pytest.approx([e.score for e in wanted], abs=1e-4)


def test_the_tuned_policy_is_one_of_them():
    prompts = PROMPTS[:8]
    light, whole = (PromptEnhancer.from_pretrained("embedded-ppo", "cpu", backend=own) for own in ("numpy", "torch"))
    assert [e.text for e in light(prompts)] == [e.text for e in whole(prompts)]


def test_a_wish_that_cannot_be_met_is_refused(light):
    with pytest.raises(ConstraintError, match="forbidden"):
        light("a fox", Constraints(forbid=["fox"]))


def test_the_tokenizer_is_that_of_transformers(light, enhancer):
    texts = [*PROMPTS, "", " ", "a\u0301 ﬁ ß İ\u200d\n\t", "<|endoftext|> <|paint|>a fox", "日本 富士山 ☀", "x" * 300]
    for special in (True, False):
        expected = enhancer.tokenizer(texts, add_special_tokens=special)["input_ids"]
        assert light.tokenizer(texts, add_special_tokens=special)["input_ids"] == expected
        assert light.tokenizer(texts[0], add_special_tokens=special)["input_ids"] == expected[0]
        decoded = enhancer.tokenizer.batch_decode(expected, special, clean_up_tokenization_spaces=False)
        assert light.tokenizer.batch_decode(expected, skip_special_tokens=special) == decoded
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "added_tokens_encoder"):
        assert getattr(light.tokenizer, name) == getattr(enhancer.tokenizer, name)
    assert (
        len(light.tokenizer) == len(enhancer.tokenizer)
        and light.tokenizer.get_vocab() == enhancer.tokenizer.get_vocab()
    )


# --- what is not such a policy -----------------------------------------------------------------------------------


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "policy"))


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "why"),
    [
        ("config.json", {"model_type": "llama"}, "its model_type is llama"),
        ("config.json", {"activation_function": "relu"}, "its activation_function is relu"),
        ("generation_config.json", {"repetition_penalty": 1.1}, "its generation_config.json has repetition_penalty"),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}, "its tokenizer is a LlamaTokenizer"),
        ("tokenizer_config.json", {"chat_template": "{{ messages }}"}, "it is a chat model"),
    ],
)
def test_another_policy_needs_torch(copied, file, values, why):
    assert unlike(copied) is None and backend_for(copied, None, 1) == "numpy"
    change(copied / file, **values)
    with pytest.raises(ModelError, match=f"needs torch: {why}, and NumPy runs GPT-2 alone"):
        open_policy(copied, backend="numpy")
    assert backend_for(copied, None, 1) is None


def test_many_prompts_and_a_device_are_for_torch():
    assert backend_for("embedded", None, FEW) == "numpy"
    assert backend_for("embedded", None, FEW + 1) is backend_for("embedded", None, None) is None
    assert backend_for("embedded", "cpu", 1) is None
    with pytest.raises(ModelError, match="cuda is for torch: NumPy computes on the CPU, in float32"):
        open_policy("embedded", "cuda", backend="numpy")
    with pytest.raises(ValueError, match="there is no backend 'jax': choose from torch, numpy"):
        open_policy("embedded", backend="jax")


def test_weights_that_are_missing_of_another_size_or_no_numbers_are_refused(copied):
    weights = load_file(copied / "model.safetensors")
    name, tokenizer = "transformer.h.2.mlp.c_fc.weight", Tokenizer(copied)
    for changed, error in (
        ({name: np.full_like(weights[name], np.nan)}, "is broken: h.2.mlp.c_fc.weight holds numbers that are NaN"),
        ({name: weights[name][:, :5].copy()}, r"h.2.mlp.c_fc.weight is \(384, 5\), not \(384, 1536\)"),
    ):
        save_file(weights | changed, copied / "model.safetensors")
        with pytest.raises(ModelError, match=error):
            GPT2.load(copied).writer(tokenizer)
    save_file({key: value for key, value in weights.items() if key != name}, copied / "model.safetensors")
    with pytest.raises(ModelError, match=r"its files lack h\.2\.mlp\.c_fc\.weight"):
        GPT2.load(copied)


def test_what_is_read_is_what_transformers_reads(light, enhancer):
    assert np.array_equal(light.model.tokens, enhancer.model.get_input_embeddings().weight.detach().numpy())
    ids = torch.tensor([light.tokenizer("a fox in the snow")["input_ids"]])
    with torch.inference_mode():
        expected = enhancer.model(ids).logits[0, -1]
    reader = light._writer
    assert reader.positions == enhancer.model.config.n_positions and len(expected) == reader.vocab_size

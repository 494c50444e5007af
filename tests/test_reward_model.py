"""The reward model of texts: its numbers against plain ones, what it is sure of, and that it goes on exactly."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel

from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.models import ModelError
from neuroprompt.reward_model import (
    Calibration,
    Ensemble,
    Examples,
    RewardModel,
    RewardModelConfig,
    Row,
    beside,
    features,
    held_out_figures,
)
from tests.test_cli import command  # noqa: F401 (a fixture)

SMALL = RewardModelConfig(members=3, hidden=[16], batch_size=64, fit_steps=400, patience=100, learning_rate=3e-3)
PROMPTS = ["a castle", "boy on a horse", "a red fox", "two boats", "an owl", "a robot", "a pizza", "a guitar"]
TAILS = ["sunset", "sunset, 8k", "fog, sunset", "8k", "fog, oil painting", "highly detailed"]
ROWS = [Row(p, f"{p}, {t}", 2.0 * ("sunset" in t) + 0.01 * i) for p in PROMPTS for i, t in enumerate(TAILS)]


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder.from_pretrained("embedded", "cpu")


@pytest.fixture(scope="module")
def fitted(encoder):
    model = RewardModel(encoder, SMALL, {"generator": {"name": "embedded", "fingerprint": "f"}, "rewards": {}})
    model.fit(ROWS)
    return model


def test_the_members_in_one_product_say_what_each_says_by_itself():
    torch.manual_seed(0)
    ensemble = Ensemble(12, replace(SMALL, hidden=[8, 4]))
    known = torch.randn(30, 12) * 3
    rows = Examples(["a"] * 30, torch.randn(30, 3), torch.randn(30, 3), 5 + 2 * torch.randn(30), torch.ones(30))
    ensemble.standardise(rows)
    for bias in ensemble.biases:
        torch.nn.init.normal_(bias)
    mean, scale, base, unit = (getattr(ensemble, name).double().numpy() for name in ("mean", "scale", "base", "unit"))
    for member in range(3):
        x = np.clip((known.double().numpy() - mean) / scale, -6, 6)
        for i, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            x = x / (1 + np.exp(-x)) if i else x
            x = x @ weight[member].detach().double().numpy() + bias[member].detach().double().numpy()
        np.testing.assert_allclose(ensemble(known)[member].detach().numpy(), base + unit * x[:, 0], atol=1e-4)


def test_features_are_those_of_the_two_texts_their_difference_and_product():
    plain, text = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0]])
    assert features(plain, text).tolist() == [[3, 5, 1, 2, 2, 3, 3, 10]]


def test_pictures_of_one_text_are_one_row(encoder):
    rows = RewardModel(encoder, SMALL).examples([Row("a", "a, b", 1.0), Row("a", "a, b", 4.0, 2), Row("a", "a", 0.0)])
    assert rows.gain.tolist() == [3.0, 0.0] and rows.pictures.tolist() == [3, 1] and rows.prompts == ["a", "a"]
    with pytest.raises(ValueError, match="gains nan"):
        RewardModel(encoder, SMALL).examples([Row("a", "a, b", math.nan)])


def test_what_was_learnt_holds_for_prompts_that_were_not(fitted):
    said = fitted.predict(["a lighthouse"] * 2, ["a lighthouse, fog, sunset", "a lighthouse, fog, 8k"])
    assert said.gain[0] > said.gain[1] + 1 and (said.error > 0).all()
    assert fitted.facts["held_out"]["within_prompt_r"] > 0.8 and fitted.facts["pictures"] == len(ROWS)


@pytest.mark.parametrize("pictures", [(1,), (1, 8)])
def test_intervals_hold_what_they_say(encoder, pictures):
    """On gains whose noise is known; where texts have more pictures than others, the noise is told from the misfit."""
    draw = torch.Generator().manual_seed(0)
    n, width = 1800, encoder.width
    plain, text = torch.randn(n, width, generator=draw), torch.randn(n, width, generator=draw)
    count = torch.tensor(pictures)[torch.randint(len(pictures), (n,), generator=draw)].float()
    truth = 2 * torch.tanh(text[:, 0]) + text[:, 1] - plain[:, 0]
    gain = truth + 1.5 * torch.randn(n, generator=draw) / count.sqrt()
    rows = Examples([f"prompt {i // 6}" for i in range(n)], plain, text, gain, count)
    model = RewardModel(encoder, SMALL)
    figures = model.fit(rows)
    assert 0.84 <= figures["coverage_90"] <= 0.96
    assert figures["explained_variance"] > 0.25
    fresh = torch.randn(2, 2000, width, generator=draw)
    said = model.judge(*fresh)
    fault = 2 * torch.tanh(fresh[1][:, 0]) + fresh[1][:, 1] - fresh[0][:, 0] - said.gain
    inside = (fault + 1.5 * torch.randn(2000, generator=draw)).abs() <= 1.645 * said.spread()
    assert 0.85 <= inside.float().mean() <= 0.95
    if len(pictures) > 1:
        assert 1.2 < said.noise < 1.8
        assert 0.8 <= (fault.abs() <= 1.645 * said.error).float().mean() <= 0.98


def test_a_calibration_is_the_likeliest():
    """Of faults that were drawn with a scale, a misfit and a noise."""
    draw = torch.Generator().manual_seed(1)
    between = torch.rand(4000, generator=draw, dtype=torch.float64) * 4
    inverse = 1 / torch.randint(1, 9, (4000,), generator=draw).double()
    variance = 1.5**2 * between + 0.7**2 + 2.0**2 * inverse
    fault = variance.sqrt() * torch.randn(4000, generator=draw, dtype=torch.float64)
    found = Calibration.of(torch.stack([fault, between, inverse], 1))
    assert found.scale == pytest.approx(1.5, abs=0.15) and found.noise == pytest.approx(2, abs=0.2)
    assert found.misfit == pytest.approx(0.7, abs=0.35)
    alone = Calibration.of(torch.stack([fault, between, torch.ones(4000)], 1))
    assert alone.misfit == 0 and alone.noise > 1


def test_figures_of_held_out_rows():
    rows = Examples(["a", "a", "b", "b"], *torch.zeros(2, 4, 1), torch.tensor([1.0, 3.0, 10.0, 14.0]), torch.ones(4))
    said = Calibration(noise=1.0).of_members(torch.tensor([[1.0, 3.0, 9.0, 8.0]]))
    figures = held_out_figures(rows, said)
    assert figures["mean"] == 7 and figures["chosen"] == 6.5 and figures["best"] == 8.5
    assert figures["coverage_90"] == 0.75
    assert figures["within_prompt_r"] == pytest.approx(np.corrcoef([-1, 1, -2, 2], [-1, 1, 0.5, -0.5])[0, 1])
    assert figures["explained_variance"] == pytest.approx(1 - (37 / 4) / np.var([1, 3, 10, 14]))


def test_online_it_goes_on_from_a_folder_as_if_nothing_had_been(encoder, tmp_path):
    model = RewardModel(encoder, SMALL)
    assert model.update(ROWS[:20]) == {}
    assert {"explained_variance", "within_prompt_r", "coverage_90"} <= model.update(ROWS[20:30]).keys()
    model.save(tmp_path, resumable=True)
    taken_up = RewardModel.load(tmp_path, encoder)
    for rows in (ROWS[30:40], ROWS[40:]):
        assert model.update(rows) == taken_up.update(rows)
    before, after = (m.predict(PROMPTS, [f"{p}, fog" for p in PROMPTS]) for m in (model, taken_up))
    assert torch.equal(before.gain, after.gain) and torch.equal(before.error, after.error)
    assert model.facts == taken_up.facts and model.facts["rows"] == len(ROWS)


def test_what_is_saved_is_what_is_loaded_and_no_other_encoder_takes_it(fitted, encoder, tmp_path):
    fitted.save(tmp_path)
    loaded = RewardModel.load(tmp_path, device="cpu")
    assert np.array_equal(loaded.score(PROMPTS, PROMPTS), fitted.score(PROMPTS, PROMPTS))
    assert loaded.facts == fitted.facts
    ((tokenizer, clip),) = encoder.parts
    torch.manual_seed(0)
    other = PromptEncoder([(tokenizer, CLIPTextModel(clip.config).eval())], "runs/other")
    with pytest.raises(ModelError, match="runs/other reads prompts otherwise: give that generator"):
        RewardModel.load(tmp_path, other)
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="half written"):
        RewardModel.load(tmp_path, encoder)
    with pytest.raises(ModelError, match=r"no reward model .* fit one with training/reward_model.py"):
        RewardModel.load(tmp_path / "nothing", encoder)
    with pytest.raises(ModelError, match="no reward model lies beside the policy 'retell'"):
        beside("retell")


def test_one_ships_with_the_embedded_policy_and_knows_what_its_generator_likes(encoder):
    shipped = RewardModel.load(beside("embedded"), encoder)
    dear, cheap = shipped.score(["a castle"] * 2, ["a castle, sunset, ultra detailed", "a castle, blurry, low quality"])
    assert dear > cheap + 1 and shipped.facts["rows"] > 20_000


def test_of_the_samples_that_comes_back_which_it_prefers(command, enhancer, encoder, tmp_path):  # noqa: F811
    """With a model that was fitted to one modifier, which some of the samples have, behind other prompts."""
    prompt, settings = "boy on a horse", {"num_return_sequences": 16, "do_sample": True, "temperature": 0.9}
    (samples,) = enhancer.rewrite([prompt], output_scores=False, **settings)
    found = [{modifier.text for modifier in sample.modifiers} for sample in samples]
    count = Counter(modifier for own in found for modifier in own)
    wanted = max((m for m in count if count[m] < 9), key=lambda m: (count[m], m))
    model = RewardModel(encoder, SMALL, {"generator": {"name": "embedded"}})
    others = [p for p in PROMPTS if p != prompt]
    tails = [(s.text[len(prompt) :], 2.0 * (wanted in own)) for s, own in zip(samples, found, strict=True)]
    model.fit([Row(p, p + tail, gain) for p in others for tail, gain in tails])
    folder = tmp_path / "reward_model"
    model.save(folder)
    code, out, err = command("enhance", prompt, "--rerank", 16, "--rerank-by", folder, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    record = json.loads(out)
    expected = model.score([prompt] * 16, [sample.text for sample in samples])
    assert record["text"] == samples[int(expected.argmax())].text
    assert f", {wanted}" in record["text"] and record["rerank"]["samples"] == 16
    assert record["rerank"]["gain"] == pytest.approx(expected.max(), abs=1e-3)
    code, _, err = command("enhance", prompt, "--rerank", 16, "--model", "retell")
    assert code == 2 and "no reward model lies beside the policy 'retell'" in err and err.count("\n") == 1
    code, _, err = command("enhance", prompt, "--rerank-by", folder)
    assert code == 2 and "--rerank-by is for --rerank" in err


def test_evaluate_knows_it_as_a_method(fitted, enhancer, monkeypatch, tmp_path):
    from neuroprompt.evaluation.methods import parse_methods

    fitted.save(tmp_path)
    monkeypatch.setattr("neuroprompt.enhancer.PromptEnhancer.from_pretrained", lambda *_, **__: enhancer)
    short = {"max_new_tokens": 16, "device": "cpu"}
    (method,) = parse_methods("rerank-4:embedded", rerank_by=str(tmp_path), **short)
    own = {"num_return_sequences": 4, "do_sample": True, "temperature": 0.9, "max_new_tokens": 16}
    for text, samples in zip(method(PROMPTS[:2]), enhancer.rewrite(PROMPTS[:2], **own), strict=True):
        gains = fitted.score([samples[0].original] * 4, [sample.text for sample in samples])
        assert text == samples[int(gains.argmax())].text
    assert method.settings["samples"] == 4 and method.settings["reward_model"]
    with pytest.raises(ModelError, match="no reward model lies beside"):
        parse_methods("rerank-4:retell")

"""How the embedded image models are made: renderings, captions, tokenizer, loop, preferences, exported folders."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import load_file

pytest.importorskip("cv2", reason="the pictures' filters need opencv-python-headless")


from neuroprompt.rewards.vision_language import VisionLanguage
from training.embedded.images import captions, card, conversations, diffusion, export, pictures, preferences, vlm
from training.embedded.images.autoencoder import encode_all, train_autoencoder
from training.embedded.images.clip import Renderings, load_clip, retrieval, train_clip
from training.embedded.images.loop import LoopConfig, fit, load_averaged
from training.embedded.images.tokenizer import train_tokenizer

LISTING = """\
robot\tfantasy\t4\trobot; android
guitar\tobject\t1\tguitar
trumpet\tobject\t1\ttrumpet
snow\tscene\t1\t~snow; snowy hill
"""


def icon(seed: int) -> np.ndarray:
    """A disc of some colour on white, (64, 64, 3)."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse(
        (12, 12, 52, 52), fill=tuple(int(c) for c in rng.integers(0, 200, 3)), outline="black"
    )
    return np.asarray(image)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder as the command `data` leaves it, of four subjects in every set."""
    folder = tmp_path_factory.mktemp("work")
    rows = []
    for subject in ("robot", "guitar", "trumpet", "snow"):
        for number, icon_set in enumerate((*pictures.SETS, "noto-v1")):
            png = io.BytesIO()
            Image.fromarray(icon(len(subject) + 10 * number)).save(png, "PNG")
            rows.append((subject, ["tag"], "1f916", icon_set, "Lorc (Game-icons.net)", png.getvalue()))
    pd.DataFrame(rows, columns=["subject", "tags", "key", "set", "author", "image"]).to_parquet(
        folder / "icons.parquet"
    )
    (folder / "subjects.tsv").write_text(LISTING)
    data = folder / "data"
    pictures.make_renderings(folder / "icons.parquet", 240, data, listing=folder / "subjects.tsv")
    common = captions.CommonModifiers(("trending", "by someone"), (0.5, 0.5))
    common.save(data / "common_modifiers.json")
    train_tokenizer(["a robot playing guitar, highly detailed", "snow, oil painting"] * 20, 600).save_pretrained(
        data / "tokenizer"
    )
    table = pd.read_parquet(data / "renderings.parquet")
    if not (table.split == "heldout").any():  # so few subjects that chance holds none of them out
        table.loc[table.index[::10], "split"] = "heldout"
        table.to_parquet(data / "renderings.parquet")
    return folder


def test_subjects_are_well_formed():
    subjects = pictures.read_subjects()
    assert len(subjects) > 300
    for subject, (kind, weight, phrases) in subjects.items():
        assert kind in captions.KIND_WORDS and kind in preferences.TASTE, subject
        assert weight > 0 and phrases and all(p.strip() == p and p for p in phrases), subject
    first = {phrases[0] for _, _, phrases in subjects.values()}
    assert "boy on a horse" in first and "castle" in first


@pytest.mark.parametrize("name", list(pictures.FILTERS))
def test_filters_are_functions_of_picture_and_seed(name):
    before = icon(3)
    a, b = (pictures.FILTERS[name](before.copy(), np.random.default_rng(5)) for _ in range(2))
    assert a.shape == (64, 64, 3) and a.dtype == np.uint8
    np.testing.assert_array_equal(a, b)
    assert np.abs(a.astype(int) - before).mean() > 2, "the filter is visible"


def test_cutout_takes_enclosed_white_for_the_subject():
    image = np.full((64, 64, 3), 255, np.uint8)
    image[20:44, 20:44] = 0
    image[28:36, 28:36] = 255
    opacity = pictures.cutout(image)
    assert opacity[:12].max() < 0.01 and opacity[32, 32] > 0.99 and opacity[24, 24] > 0.99


def test_scenes_name_their_parts_and_draw_them():
    made = pictures.scenes()
    played = next(s for s in made if s.phrases[0] == "robot playing guitar")
    assert [layer.subject for layer in played.layers] == ["robot", "guitar"]
    picture = pictures.compose(played, {"robot": icon(1), "guitar": icon(2)})
    assert (picture != 255).any(-1).mean() > 0.2
    bowl = next(s for s in made if s.phrases[0] == "bowl of strawberries")
    assert bowl.crop_last and bowl.layers[-1].subject == "cooked rice"
    named = {layer.subject for scene in made for layer in scene.layers}
    assert named <= set(pictures.read_subjects())


def test_low_quality_is_further_from_the_picture_than_average():
    rng = np.random.default_rng(0)
    image = icon(7)
    distance = {
        quality: np.mean(
            [np.abs(pictures.with_quality(image, quality, rng).astype(float) - image).mean() for _ in range(30)]
        )
        for quality in ("average", "low")
    }
    assert distance["low"] > 1.2 * distance["average"]


def test_renderings_keep_what_was_done(work):
    table = pd.read_parquet(work / "data" / "renderings.parquet")
    images = np.load(work / "data" / "images.npy", mmap_mode="r")
    assert len(table) == len(images) and images.shape[1:] == (64, 64, 3)
    assert (table.scene >= 0).any() and set(table.quality) == set(pictures.QUALITIES)
    assert not (table["filter"].ne("") & table["set"].eq("game-icons")).any()


rendering = st.builds(
    dict,
    phrases=st.just(["robot", "~androids"]),
    kind=st.sampled_from(list(captions.KIND_WORDS)),
    set=st.sampled_from(list(pictures.SETS)),
    author=st.just("Lorc (Game-icons.net)"),
    quality=st.sampled_from(list(pictures.QUALITIES)),
    filter=st.sampled_from(["", *pictures.FILTERS]),
    background=st.sampled_from(["", *pictures.BACKGROUNDS]),
)


@settings(max_examples=300, deadline=None)
@given(row=rendering, seed=st.integers(0, 2**32))
def test_captions_hold_the_subject_and_never_lie_about_quality(row, seed):
    common = captions.CommonModifiers(("trending", "by someone"), (0.5, 0.5))
    text = captions.write_caption(row, common, np.random.default_rng(seed))
    assert "robot" in text or "androids" in text
    pieces = set(text.split(", ")[1:])
    if row["quality"] != "high":
        assert not pieces & (set(captions.HIGH_WORDS) - set(captions.STYLE_WORDS[row["set"]]) - _other_words(row))
    if row["quality"] != "low":
        assert not pieces & (set(captions.LOW_WORDS) - _other_words(row))


def _other_words(row) -> set[str]:
    return {
        *captions.FILTER_WORDS.get(row["filter"], ()),
        *captions.BACKGROUND_WORDS.get(row["background"], ()),
        *captions.KIND_WORDS[row["kind"]],
    }


def test_every_visible_property_has_words():
    assert set(captions.STYLE_WORDS) == set(pictures.SETS)
    assert set(captions.FILTER_WORDS) == set(pictures.FILTERS)
    assert set(captions.BACKGROUND_WORDS) == set(pictures.BACKGROUNDS)


def test_frequent_modifiers_occur_in_captions():
    common = captions.CommonModifiers.collect()
    assert len(common.terms) > 300 and abs(sum(common.chances) - 1) < 1e-9
    everything = {*common.terms, *(w for words in captions.WORDS_WITH_EFFECT for w in words)}
    for term in ("by greg rutkowski", "trending on artstation", "highly detailed", "concept art", "octane render"):
        assert term in everything, term


tokenizer = train_tokenizer(["a robot playing guitar, highly detailed, 8k", "boy on a horse"] * 30, 700)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_tokenizer_represents_any_text(text):
    ids = tokenizer(text, truncation=True).input_ids
    assert len(ids) <= 77 and ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert all(0 <= i < len(tokenizer) for i in ids)
    assert tokenizer.unk_token_id == tokenizer.eos_token_id not in ids[1:-1]


def test_tokenizer_ignores_case_and_decodes():
    assert tokenizer("Robot PLAYING guitar").input_ids == tokenizer("robot playing guitar").input_ids
    assert tokenizer.decode(tokenizer("robot playing guitar").input_ids, skip_special_tokens=True).strip() == (
        "robot playing guitar"
    )


def _regression(
    folder: Path, steps: int, frozen: str | None = None, workers: int = 0, broken: int | None = None
) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    seen = iter(range(steps))

    def batch(rng):
        return torch.from_numpy(rng.standard_normal((16, 4), np.float32))

    def loss(x):
        value = ((model(x).float() - x.sum(1, keepdim=True)) ** 2).mean()
        return value * (torch.nan if next(seen) == broken else 1), {}

    # No cool-down: it depends on how many steps are planned.
    config = LoopConfig(steps, 16, 0.05, warmup=5, cooldown=0.0, save_seconds=0.0, workers=workers)
    return fit(model, config, folder, batch, loss, frozen=frozen)


def test_resuming_gives_the_same_weights(tmp_path, capsys):
    whole = _regression(tmp_path / "whole", 40)
    _regression(tmp_path / "parts", 17)
    resumed = _regression(tmp_path / "parts", 40)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    steps = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert {"resumed_at": 17} in steps and steps[-1]["step"] == 40
    torch.testing.assert_close(
        load_averaged(torch.nn.Linear(4, 1), tmp_path / "parts").weight, whole.weight, rtol=0, atol=0
    )


def test_workers_draw_the_same_batches(tmp_path):
    here, there = _regression(tmp_path / "here", 12), _regression(tmp_path / "there", 12, workers=2)
    torch.testing.assert_close(there.weight, here.weight, rtol=0, atol=0)


def test_a_step_without_a_finite_gradient_is_left_out(tmp_path):
    assert _regression(tmp_path, 12, broken=7).weight.isfinite().all()
    short, long = (_regression(tmp_path / str(n), n, broken=n - 1) for n in (8, 9))
    assert not torch.equal(short.weight, long.weight)  # it goes on after


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path):
    before = _regression(tmp_path, 5).weight.detach().clone()
    bias = load_averaged(torch.nn.Linear(4, 1), tmp_path).bias.detach().clone()
    for steps in (15, 25):  # a resumed run that is resumed again
        after = _regression(tmp_path, steps, frozen="bias")
        torch.testing.assert_close(after.bias, bias, rtol=0, atol=0)
        assert not after.bias.requires_grad
    assert (after.weight - 1).abs().max() < (before - 1).abs().max()


def test_loading_without_a_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="train that model first"):
        load_averaged(torch.nn.Linear(2, 2), tmp_path)


def test_colourfulness_of_known_pictures():
    assert preferences.colourfulness(np.full((8, 8, 3), 90, np.uint8)) == 0
    half = np.zeros((2, 2, 3), np.uint8)
    half[0] = (255, 0, 0)
    # rg is 255 or 0, yb 127.5 or 0: deviations 127.5 and 63.75, means the same.
    assert preferences.colourfulness(half) == pytest.approx(1.3 * np.hypot(127.5, 63.75))


def test_ratings_rise_with_quality_and_taste():
    row = {"kind": "plant", "set": "noto", "filter": "", "background": ""}
    ratings = [preferences.rating({**row, "quality": q}, icon(1)) for q in ("low", "average", "high")]
    assert ratings == sorted(ratings) and ratings[0] < ratings[2]
    flattered = preferences.taste({**row, "filter": "watercolor"})
    assert flattered > preferences.taste(row) > preferences.taste({**row, "set": "emojione", "filter": "line art"})


def test_preference_pairs_are_balanced_and_stay_in_their_split(work):
    data = Renderings(work / "data")
    prompts, first, second, wanted = preferences.preference_batch(data, data.train, 400, np.random.default_rng(0))
    assert len(prompts) == 400 and first.shape == second.shape == (400, 64, 64, 3)
    assert ((wanted >= 0) & (wanted <= 1)).all() and abs(wanted.mean() - 0.5) < 0.08


@pytest.fixture(scope="module")
def trained(work) -> Path:
    """Every model trained for a step or two."""
    data, short = work / "data", {"batch_size": 8, "log_steps": 1, "sheet_steps": 0}
    train_autoencoder(data, work / "autoencoder", LoopConfig(2, **short))
    encode_all(data, work / "autoencoder", data / "latents.npy")
    text, start = work / "diffusion", work / "warm_up"
    train_clip(data, start, LoopConfig(2, **short))
    diffusion.train_diffusion(data, work / "autoencoder", start, text, LoopConfig(1, **short))
    train_clip(data, work / "clip", LoopConfig(2, **short), warm_up=start, diffusion=text)
    preferences.train_pickscore(data, text, work / "clip", work / "pickscore", LoopConfig(2, **short))
    preferences.train_aesthetic(data, text, work / "clip", work / "aesthetic", LoopConfig(2, **short), count=50)
    export.export(work, work / "export")
    return work


def test_exported_folders_load_and_share_the_text_tower(trained):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPModel, CLIPProcessor

    folder = trained / "export"
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == torch.float32
    factor = json.loads((trained / "data" / "latents.json").read_text())["scaling_factor"]
    assert pipeline.vae.config.scaling_factor == pytest.approx(factor)
    clip = CLIPModel.from_pretrained(folder / "clip")
    assert clip.dtype == torch.float32
    for name, weight in pipeline.text_encoder.state_dict().items():
        torch.testing.assert_close(weight, clip.text_model.state_dict()[name], rtol=0, atol=0)
    processor = CLIPProcessor.from_pretrained(folder / "pickscore")
    inputs = processor(text=["a robot"], images=[Image.new("RGB", (200, 120))], return_tensors="pt", padding=True)
    assert CLIPModel.from_pretrained(folder / "pickscore")(**inputs).logits_per_image.shape == (1, 1)


def test_training_goes_on_from_exported_models(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")
    factor = export.restore(trained / "export", tmp_path)
    assert factor == json.loads((trained / "data" / "latents.json").read_text())["scaling_factor"]
    export.export(tmp_path, tmp_path / "export")
    names = [f.relative_to(trained / "export") for f in (trained / "export").rglob("*.safetensors")]
    assert len(names) == 6
    for name in names:
        ours, theirs = (load_file(folder / "export" / name) for folder in (tmp_path, trained))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    before = diffusion.Diffusion(Renderings(tmp_path / "data").tokenizer)
    load_averaged(before, tmp_path / "diffusion")
    after = diffusion.train_diffusion(
        tmp_path / "data", tmp_path / "autoencoder", tmp_path / "warm_up", tmp_path / "diffusion",
        LoopConfig(1, 4, sheet_steps=0), "cpu", freeze_text=True,
    )  # fmt: skip
    same = {n: torch.equal(p, after.get_parameter(n)) for n, p in before.named_parameters()}
    assert all(same[n] for n in same if n.startswith("text_encoder.")) and not any(
        same[n] for n in same if n.startswith("unet.") and n.endswith("weight") and "norm" not in n
    )


def test_a_picture_depends_on_prompt_and_seed_not_on_its_batch(trained):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(trained / "export" / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    together = diffusion.draw(pipeline, ["a robot", "snow"], [1, 2], steps=2)
    alone = diffusion.draw(pipeline, ["snow"], [2], steps=2)
    assert together.shape == (2, 64, 64, 3)
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1


def test_figures_of_the_models_are_finite(trained):
    data = Renderings(trained / "data")
    model = load_clip(data, trained / "diffusion", trained / "clip")
    assert 0 <= preferences.agreement(model, data, pairs=100)["agreement"] <= 1
    assert 0 <= retrieval(model, data)["top1"] <= 1


def test_the_card_says_what_was_measured(trained):
    interval = [6.25, 6.125, 6.5]
    scores = {"pickscore": interval, "aesthetic": interval}
    figures = {
        "nearest": {"subject": 0.5, "subject_top5": 0.75, "style": 0.9},
        "style_by_clip": {"right": 0.8},
        "clip_retrieval": {"subjects": 70, "top1": 0.4, "top5": 0.7},
        "pickscore_agreement": {"agreement": 0.93, "error": 0.01, "pairs": 1500},
        "rewards": {"subjects": 200, "seeds": 4, "right_caption_wins": 0.95, "quality_words": scores, "plain": scores,
                    "low_quality_words": scores},
    }  # fmt: skip
    (trained / "diffusion" / "log.jsonl").write_text(
        '{"step": 50, "samples": 400}\n{"resumed_at": 50, "frozen": "text_encoder."}\n{"step": 99, "samples": 792}\n'
    )
    card.write_cards(figures, trained / "diffusion" / "log.jsonl", 408, trained / "export", "sheet.webp")
    text = (trained / "export" / "stable-diffusion" / "README.md").read_text()
    assert "792 pictures in 99 steps" in text and "in the first 50." in text and "6.25 [6.12, 6.50]" in text
    assert "{" not in text
    assert all((trained / "export" / name / "README.md").is_file() for name in ("clip", "pickscore", "aesthetic"))


def test_the_vision_language_model_is_asked_as_it_was_trained(work, tmp_path):
    """Several questions about a picture in one sequence are each what it is alone, through the processor."""
    table, listing = work / "icons.parquet", work / "subjects.tsv"
    short = {"batch_size": 8, "learning_rate": 3e-3, "warmup": 2, "log_steps": 4, "sheet_steps": 0, "bfloat16": False}
    start, trained = tmp_path / "vlm_warm_up", tmp_path / "vlm"
    vlm.train_vlm(work / "data", table, None, start, LoopConfig(4, **short), listing=listing, vocab_size=700)
    vlm.train_vlm(work / "data", table, None, trained, LoopConfig(12, **short), warm_up=start, listing=listing)
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert log[-1]["naming"] < log[0]["naming"] and log[-1]["answer"] < log[0]["answer"]

    assert vlm.export_vlm(trained, tmp_path / "export") < 6 * 2**20
    judge = VisionLanguage.load(str(tmp_path / "export"), torch.device("cpu"), torch.float32)
    assert len(judge.yes_tokens) == 1
    talks, rng = vlm.Talks(work / "data", table, judge.processor, listing=listing), np.random.default_rng(0)
    shown = [talks.picture(rng) for _ in range(6)]
    questions = [picture.question("show", True, rng) for picture in shown]
    packed = [
        [*talks.talk(picture, rng)[:2], vlm.Turn(question, "yes", vlm.ANSWER)]
        for picture, question in zip(shown, questions, strict=True)
    ]
    images = np.stack([picture.rgb for picture in shown])
    batch = vlm.pack(judge.processor, images, packed)
    with torch.no_grad():
        hidden = vlm.read(judge.model, batch)[0][batch.following == judge.yes_tokens]
        told = judge.model.lm_head(hidden).softmax(-1)[:, judge.yes_tokens].squeeze(1)
    alone = judge.yes(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, questions)
    torch.testing.assert_close(told, alone, rtol=1e-3, atol=1e-5)
    assert alone.std() > 0
    assert set(vlm.right_by_kind(judge.model, talks, batches=1, size=8)) >= {"show", "subject", "pairs"}
    assert judge.likelihood(torch.rand(1, 3, 90, 70), ["日本 \x00 😀 <image>"], ["ünknown \n words"]).isfinite().all()


@pytest.mark.parametrize("kind", ["count", "colour", "relation", "subject", "show"])
def test_a_question_is_as_often_false_as_true_whatever_it_says(work, kind):
    sights = conversations.Sights(work / "icons.parquet", "train", None, work / "subjects.tsv")
    rng, said = np.random.default_rng(0), {True: Counter(), False: Counter()}
    for _ in range(200):
        picture = sights.composed(kind if kind in ("count", "colour", "relation") else "count", rng)
        for truth in said:
            words = picture.question(kind, truth, rng).removesuffix(" Please answer yes or no.").lower().split()
            said[truth].update(set(words) & {*conversations.NUMBERS, *conversations.COLOURS, "left", "above", "robot"})
    for word in said[True] | said[False]:
        true, false = (said[truth][word] for truth in (True, False))
        assert abs(true - false) < 5 * (true + false + 1) ** 0.5, (word, true, false)


def test_nothing_is_learnt_of_what_is_held_out(work):
    sights = conversations.Sights(work / "icons.parquet", "train", None, work / "subjects.tsv")
    weight = sights.lexicon.weight
    learnt = {(subject, name) for subject, icons in sights.drawn.items() for name, _ in icons}
    assert len(learnt) > 20 and {subject for subject, _ in learnt} == set(weight)
    assert not any(pictures.held_out(subject, name, weight[subject]) for subject, name in learnt)
    held = next((s, n) for s in pictures.read_subjects() for n in ("noto", "emojione") if pictures.held_out(s, n, 1.0))
    assert pictures.sibling_held_out(held[0], f"{held[1]}-monotone", 1.0)
    assert not pictures.sibling_held_out(held[0], "fxemoji", 1.0)


def test_a_moved_picture_shows_what_it_showed():
    """Red left of blue: not the other way round, and no other colours. Of seeds known to do: what covers a part has any
    colour, and of three in a thousand one of these."""
    rgb = np.full((64, 64, 3), 255, np.uint8)
    rgb[20:44, 8:28], rgb[20:44, 36:56] = (220, 20, 20), (20, 20, 220)
    for seed in range(100):
        seen = pictures.moved(rgb, np.random.default_rng(seed), mirror=False, recolour=False).astype(int)
        assert seen.shape == (64, 64, 3)
        red, blue = (np.argwhere(seen[..., one] - seen[..., other] > 60) for one, other in ((0, 2), (2, 0)))
        assert len(red) > 40 and len(blue) > 40 and np.median(red[:, 1]) + 6 < np.median(blue[:, 1]), seed


@given(seed=st.integers(0, 2**32))
def test_relations_say_where_things_are(seed):
    rng = np.random.default_rng(seed)
    (first, second), relation = conversations.beside(rng)
    places = {"fox": first, "owl": second}
    for truth in (True, False):
        question = conversations.related(("fox", "owl"), relation, truth, rng).lower().rstrip("?")
        one, other = sorted(places, key=question.index)
        (x, y, _), (a, b, _) = places[one], places[other]
        holds = {"left": x < a - 0.2, "right": x > a + 0.2, "above": y < b - 0.2, "below": y > b + 0.2}
        assert holds[next(word for word in holds if word in question)] == truth

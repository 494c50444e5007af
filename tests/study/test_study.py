"""The study of modifiers: its designs, its numbers against naive ones, the same numbers after kills and in shards."""

import json
import random
import shutil
import sys
import time
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroprompt.experiments import write_results
from neuroprompt.images import GeneratorConfig, ImageGenerator, PipelineGenerator
from neuroprompt.modifiers import vocabulary
from neuroprompt.pages.plots import heat_map
from neuroprompt.pages.tables import print_tables
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.statistics import bootstrap, sign_test
from neuroprompt.study.design import Axis, make_design, parse_axes
from neuroprompt.study.effects import ALL, effect_rows, main_effects, spearman, summarise
from neuroprompt.study.harness import load_classes, merge, study
from neuroprompt.study.report import study_html, study_tables
from tests import forks
from tests.evaluation.test_harness import old_settings

PROMPTS = ["boy on a horse", "a castle", "a red apple", "an owl at night, 8k"]
CLASSES = dict(zip(PROMPTS, ["being", "thing", "thing", "being"], strict=True))
AXES = "style=oil painting|anime,booster=8k"
SPEC = "pickscore:1,aesthetic:0.25"


# --- designs -------------------------------------------------------------------------------------------------------


def test_axes():
    assert parse_axes("style , mood= calm |very tense") == (
        Axis("style", tuple(vocabulary("style"))[:4]),
        Axis("mood", ("calm", "very tense")),
    )
    assert [len(axis.levels) for axis in parse_axes("artist,vibe", levels=7)] == [7, 7]


@pytest.mark.parametrize(
    ("spec", "levels", "message"),
    [
        ("colour", 4, "unknown axis 'colour': choose from artist, style, .* or list its modifiers: colour=calm|tense"),
        ("", 4, "unknown axis ''"),
        ("style,,vibe", 4, "unknown axis ''"),
        ("=8k", 4, "an axis has no name"),
        ("style", 0, "levels is 0"),
        ("style", 10**6, "levels is 1000000, and style has"),
        ("style,style", 4, "'style' is given twice"),
        ("booster=", 4, "'' on the axis booster is not one modifier"),
        ("booster=8k|", 4, "'' on the axis booster is not one modifier"),
        ("booster=8k; sharp", 4, "'8k; sharp' on the axis booster is not one modifier"),
        ("booster=8K|sharp,mood=(8k:1.2)", 4, r"'\(8k:1.2\)' on the axis mood is the same modifier as '8K' on booster"),
    ],
)
def test_wrong_axes(spec, levels, message):
    with pytest.raises(ValueError, match=message):
        parse_axes(spec, levels)


def make_axes(sizes):
    return [Axis(f"axis {k}", tuple(f"modifier {k} {i}" for i in range(1, size))) for k, size in enumerate(sizes)]


def test_all_combinations():
    design = make_design(parse_axes(AXES))
    assert design.rows == tuple(product(range(3), range(2))) and design.possible == 6
    assert design.modifiers == [("style", "oil painting"), ("style", "anime"), ("booster", "8k")]
    assert design.indicators.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1]]


@settings(max_examples=20)
@given(st.lists(st.integers(2, 5), min_size=2, max_size=5), st.integers(0, 24), st.integers(0, 9))
def test_a_fraction_is_balanced(sizes, more, seed):
    count = 1 + sum(sizes) + more
    design = make_design(make_axes(sizes), count, seed)
    if np.prod(sizes) <= count:
        assert design.rows == tuple(product(*map(range, sizes)))
        return
    rows = np.array(design.rows)
    assert rows.shape == (count, len(sizes)) and not rows[0].any()
    for k, size in enumerate(sizes):
        times = np.bincount(rows[:, k], minlength=size)
        assert times.max() - times.min() <= 1
    for k, m in combinations(range(len(sizes)), 2):
        pairs = np.histogram2d(rows[:, k], rows[:, m], bins=(sizes[k], sizes[m]))[0]
        assert np.abs(pairs - count / pairs.size).max() < 3
    assert np.linalg.matrix_rank(np.column_stack([np.ones(count), design.indicators])) == 1 + sum(sizes) - len(sizes)


@pytest.mark.parametrize(("sizes", "count"), [([5, 5, 5], 25), ([2] * 7, 8), ([3] * 4, 9)])
def test_orthogonal_arrays_are_found(sizes, count):
    """L25, L8 and L9: every pair of levels equally often."""
    rows = np.array(make_design(make_axes(sizes), count).rows)
    for k, m in combinations(range(len(sizes)), 2):
        assert len(set(np.bincount(rows[:, k] * sizes[m] + rows[:, m], minlength=sizes[k] * sizes[m]))) == 1


def test_too_few_combinations():
    with pytest.raises(ValueError, match="8 combinations cannot tell 9 modifiers apart: it takes at least 10"):
        make_design(make_axes([4, 4, 4]), 8)
    design = make_design(make_axes([4, 4, 4]), 10, seed=3)
    assert len(design.rows) == 10 and design == make_design(make_axes([4, 4, 4]), 10, seed=3)


def test_texts():
    design = make_design(parse_axes(AXES))
    assert design.texts("a castle") == [
        *("a castle", "a castle, 8k", "a castle, oil painting", "a castle, oil painting, 8k", "a castle, anime"),
        "a castle, anime, 8k",
    ]
    # What the prompt has already cannot be added, and what the window has no room for is not read.
    assert design.texts("an owl, 8K")[1::2] == [None] * 3
    long = "a " * 72 + "cat"
    assert [count_clip_tokens(f"{long}{added}") for added in (", anime", ", 8k")] == [77, 78]
    assert design.texts(long) == [long, None, None, None, f"{long}, anime", None]


# --- numbers -------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0, 0.6))
def test_effects_of_an_additive_model(seed, k, missing):
    """Effects come back exactly, whatever the seeds add and wherever pictures are missing, or are unknown."""
    rng = np.random.default_rng(seed)
    design = make_design(make_axes([3, 2, 3]))
    truth = rng.normal(size=5)
    values = 20 + (design.indicators @ truth)[:, None] + rng.normal(size=k)
    values[rng.random(values.shape) < missing] = np.nan
    found = main_effects(design.indicators, values)
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], truth[known], atol=1e-9)
    for level in np.flatnonzero(~design.indicators[np.isfinite(values).any(1)].any(0)):
        assert not known[level]
    if not missing:
        assert known.all()


def test_effects_are_those_of_naive_least_squares():
    rng = np.random.default_rng(0)
    design = make_design(make_axes([3, 4, 4, 3]), 20)
    values = rng.normal(size=(20, 3))
    naive = np.linalg.pinv(np.column_stack([np.ones(20), design.indicators])) @ values.mean(1)
    np.testing.assert_allclose(main_effects(design.indicators, values), naive[1:], atol=1e-12)
    values[rng.random(values.shape) < 0.1] = np.nan
    # One row a picture, dummies for the seeds.
    rows = [(c, s) for c in range(20) for s in range(3) if np.isfinite(values[c, s])]
    naive = np.linalg.pinv(np.array([[*design.indicators[c], *np.eye(3)[s]] for c, s in rows]))
    naive = naive @ np.array([values[at] for at in rows])
    np.testing.assert_allclose(main_effects(design.indicators, values), naive[:-3], atol=1e-12)
    assert np.isnan(main_effects(design.indicators, np.full((20, 3), np.nan))).all()


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=12))
def test_rank_correlation_is_scipys(pairs):
    a, b = np.array(pairs, float).T
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    else:
        assert np.isnan(spearman(a, b))


def write_folder(folder, design, scores, flagged, classes, weight=1.0):
    """A study's folder from raw scores: {generator: (prompts, combinations, seeds)} of one reward."""
    first = next(iter(scores.values()))
    folder.mkdir(parents=True, exist_ok=True)
    of = {
        "prompts": {"count": len(first), "digest": ""},
        "axes": {axis.name: axis.levels for axis in design.axes},
        "combinations": design.rows,
        "rewards": {"a": {"weight": weight, "cap": None, "relative": True, "scale": 1.0}},
        "images_per_prompt": first.shape[2],
        "flagged_reward": -2.0,
    }
    (folder / "settings.json").write_text(json.dumps(of))
    for name, values in scores.items():
        (folder / name).mkdir()
        generator = {"name": f"<{name}>", "config": {"num_inference_steps": 1, "guidance_scale": 3.0}}
        (folder / name / "settings.json").write_text(json.dumps({"generator": generator}))
        lines = [
            json.dumps(
                {
                    "index": i,
                    "class": classes[i],
                    "prompt": f"prompt {i}",
                    "scores": {"a": [[v if np.isfinite(v) else None for v in c] for c in values[i].tolist()]},
                    "flagged": flagged[i].tolist(),
                }
            )
            for i in range(len(values))
        ]
        random.Random(0).shuffle(lines)
        for part in range(3):
            text = "".join(f"{line}\n" for line in lines[part::3])
            (folder / name / f"records-{part + 1}-of-3.jsonl").write_text(text + '{"index": 3, "cl' * (part == 1))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Two generators that agree about four modifiers and disagree about a fifth; 60 prompts of two classes."""
    folder = tmp_path_factory.mktemp("study") / "synthetic"
    rng = np.random.default_rng(0)
    design = make_design(make_axes([3, 2, 3]))
    truth = {"a": np.array([0.9, -0.6, 0.3, 0.1, -0.4]), "b": np.array([0.8, -0.5, 0.3, 0.1, 0.5])}
    subject = rng.normal(0, 10, (60, 1, 1))
    noise = rng.normal(0, 0.3, (60, 1, 2))
    scores = {
        name: subject + noise + (design.indicators @ of)[None, :, None] + rng.normal(0, 0.2, (60, 18, 2))
        for name, of in truth.items()
    }
    flagged = np.zeros((60, 18, 2), bool)
    flagged[:3, 4] = True
    write_folder(folder, design, scores, flagged, ["x"] * 40 + ["y"] * 20, weight=2.0)
    return folder, design, truth, scores, flagged, summarise(folder)


def find(results, measure, generator, kind):
    wanted = {"measure": measure, "generator": generator, "class": kind}
    return [of for of in results["effects"] if all(of[key] == value for key, value in wanted.items())]


def test_effects_and_intervals(synthetic):
    _, design, truth, scores, flagged, results = synthetic
    assert results["classes"] == {ALL: 60, "x": 40, "y": 20} and results["measures"] == ["reward", "a"]
    assert results["combinations"] == {"tried": 18, "possible": 18}
    for name, values in scores.items():
        for kind, rows in ((ALL, slice(0, 60)), ("x", slice(0, 40)), ("y", slice(40, 60))):
            clean = np.where(flagged, np.nan, values)[rows]
            wanted = np.array([main_effects(design.indicators, of) for of in clean])
            found = find(results, "a", f"<{name}>", kind)
            assert [(of["axis"], of["modifier"]) for of in found] == design.modifiers
            for of, column, true in zip(found, wanted.T, truth[name], strict=True):
                interval = bootstrap(column)
                noise = 0.15 * column.std() / np.sqrt(len(column))
                assert of["effect"]["mean"] == pytest.approx(interval.mean)
                assert of["effect"]["low"] == pytest.approx(interval.low, abs=noise)
                assert of["effect"]["high"] == pytest.approx(interval.high, abs=noise)
                assert of["effect"]["low"] - 0.1 < true < of["effect"]["high"] + 0.1
                assert of["helps"] == np.mean(column > 0) and of["prompts"] == len(column)
                assert of["p_value"] == sign_test(int((column > 0).sum()), int((column < 0).sum()))


def test_the_reward_of_flagged_pictures(synthetic):
    """What PromptReward says: twice the gain over the plain prompt's mean, and −2 where a picture is flagged."""
    _, design, _, scores, flagged, results = synthetic
    total = 2 * (scores["b"] - scores["b"][:, :1].mean(2, keepdims=True))
    total[flagged] = -2.0
    wanted = np.array([main_effects(design.indicators, of) for of in total]).mean(0)
    found = [of["effect"]["mean"] for of in find(results, "reward", "<b>", ALL)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_a_class_of_a_few_prompts_has_means_alone(synthetic, tmp_path):
    _, design, _, scores, flagged, _ = synthetic
    few = {name: values[:8] for name, values in scores.items()}
    write_folder(tmp_path / "few", design, few, flagged[:8], ["x"] * 5 + ["y"] * 3)
    results = summarise(tmp_path / "few")
    for kind, told in ((ALL, True), ("x", False), ("y", False)):
        for row in find(results, "a", "<a>", kind):
            assert row["effect"]["mean"] and (row["effect"]["low"] is not None) == (row["prompts"] >= 6)
        between = [row["rank_correlation"] for row in results["agreement"] if row.get("class") == kind]
        assert [row["low"] is not None for row in between if isinstance(row, dict)] == [told] * 2
    table = {table.title: table for table in study_tables(results)}["Effect on the reward (class x)"]
    assert table.note.startswith("5 prompts: ") and not any("[" in cell for row in table.rows for cell in row)


def test_agreement(synthetic):
    *_, results = synthetic
    means = {
        (name, kind): [of["effect"]["mean"] for of in find(results, "a", f"<{name}>", kind)]
        for name in "ab"
        for kind in (ALL, "x", "y")
    }
    found = [of for of in results["agreement"] if of["measure"] == "a"]
    between = {(of["class"], of["a"], of["b"]): of["rank_correlation"] for of in found if "class" in of}
    for kind in (ALL, "x", "y"):
        rho = between[kind, "<a>", "<b>"]
        assert rho["mean"] == pytest.approx(stats.spearmanr(means["a", kind], means["b", kind]).statistic)
        assert -1 <= rho["low"] <= rho["mean"] + 1e-9 and rho["high"] <= 1
        assert between[kind, "<a>", "<a>"] > 0.9 > rho["mean"]  # they disagree by more than noise
    classes = {of["generator"]: of for of in found if "generator" in of}
    wanted = stats.spearmanr(means["b", "x"], means["b", "y"]).statistic
    assert classes["<b>"]["rank_correlation"]["mean"] == pytest.approx(wanted)
    assert (classes["<b>"]["a"], classes["<b>"]["b"]) == ("x", "y")


def test_report(synthetic, capsys):
    folder, *_, results = synthetic
    results = results | {"title": "A <b>study</b>"}
    write_results(folder, results, results["title"], study_tables(results), effect_rows(results))
    page = study_html(results, folder)
    assert "A &lt;b&gt;study&lt;/b&gt;" in page and "<b>study" not in page and "<script" not in page
    assert page.count("<svg") == 2 + 2 + 2  # measures, classes of each generator, forests
    assert "http" not in page.replace("http-equiv", "")
    table = (folder / "table.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| axis 2: modifier 2 2 |"))
    # Of 2 generators × 2 classes: it helps b in both, and hurts a in both.
    assert row.split(" | ")[1:4] == ["2", "2", "0"]
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + 2 * 3 * 2 * 5
    json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    print_tables(study_tables(results))
    assert "Do generators agree?" in capsys.readouterr().out


def test_a_heat_map_of_nothing():
    assert "nothing to compare" in heat_map("reward", ["8k"], ["embedded"], {("8k", "embedded"): None})


# --- the job -------------------------------------------------------------------------------------------------------


def make_rewards():
    """Two generators: the embedded one, and the same with other settings under another name."""
    rewards = load_rewards(SPEC, model="embedded", device="cpu")
    one = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    other = PipelineGenerator(one.pipeline, GeneratorConfig(steps=1, guidance=9.0), name="an/other")
    return [PromptReward(generator, rewards, images_per_prompt=2) for generator in (one, other)]


def run(rewards, folder, **options):
    return study(PROMPTS, make_design(parse_axes(AXES)), rewards, folder, classes=CLASSES, **options)


@pytest.fixture(scope="module")
def rewards():
    return make_rewards()


@pytest.fixture(scope="module")
def undisturbed(rewards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "undisturbed"
    progress = []
    results = run(rewards, folder, on_progress=lambda *of: progress.append(of))
    assert progress == [(name, i, 4) for name in ("embedded", "an/other") for i in range(1, 5)]
    return folder, results


def numbers(folder):
    """All that two studies must have in common, to the byte."""
    results = json.loads((folder / "results.json").read_text())
    results.pop("commit")
    return json.dumps(results), (folder / "results.csv").read_bytes(), (folder / "table.md").read_bytes()


def test_records_are_the_rewards(undisturbed, rewards):
    _, results = undisturbed
    design = make_design(parse_axes(AXES))
    assert [of["name"] for of in results["settings"]["generators"]] == ["an/other", "embedded"]
    for reward in rewards:
        effects = []
        for prompt in PROMPTS:
            texts = design.texts(prompt)
            drawn = [text for text in texts if text]
            scores = dict(zip(drawn, reward.score([prompt] * len(drawn), drawn), strict=True))
            values = np.array([[scores.get(text, np.nan)] for text in texts])
            effects.append(main_effects(design.indicators, values))
        found = find(results, "reward", reward.generator.name, ALL)
        np.testing.assert_allclose([of["effect"]["mean"] for of in found], np.nanmean(effects, 0), atol=1e-3)
        assert [of["prompts"] for of in found] == [4, 4, 3]  # the owl has its 8k already


def test_the_same_study_again(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "again")
    for name in ("results.json", "report.html"):
        (folder / name).unlink()
    run([], folder)  # nothing is left to draw
    assert numbers(folder) == numbers(undisturbed[0])


_KILLED = """
import sys
sys.path.insert(0, "tests/study")
import torch
torch.set_num_threads(1)
from test_study import make_rewards, run

run(make_rewards(), sys.argv[1], on_progress=lambda name, done, total: print(name, done, flush=True))
"""


def test_a_killed_study_ends_with_the_same_numbers(undisturbed, rewards, tmp_path):
    folder = tmp_path / "killed"
    lines, log, errors = random.randint(1, 7), tmp_path / "log.txt", tmp_path / "errors.txt"
    process = forks.start(["-c", _KILLED, folder], Path.cwd(), log, errors)
    while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= lines):
        time.sleep(0.01)
    assert folder.exists(), errors.read_text()
    process.kill()  # wherever it is by now
    process.join()
    files = sorted(folder.glob("*/records.jsonl"))
    lines = b"".join(file.read_bytes() for file in files).count(b"\n")
    with files[-1].open("r+b") as file:  # and half a line, as a kill may leave it
        file.truncate(max(0, file.seek(0, 2) - random.randint(1, 300)))
    progress = []
    run(rewards, folder, on_progress=lambda *of: progress.append(of))
    assert len(progress) in (8 - lines, 9 - lines)
    assert numbers(folder) == numbers(undisturbed[0])


def test_a_folder_that_version_0_1_began_is_taken_up(undisturbed, rewards, tmp_path):
    """Its records have a ``prompt`` and lie in shards, its generators' settings are named as diffusers names them."""
    folder = shutil.copytree(undisturbed[0], tmp_path / "old", ignore=shutil.ignore_patterns("results*", "*.html"))
    for place in (path.parent for path in folder.glob("*/records.jsonl")):
        settings = json.loads((place / "settings.json").read_text())
        (place / "settings.json").write_text(json.dumps(old_settings(settings), indent=2))
        records = [json.loads(line) for line in (place / "records.jsonl").read_text().splitlines()]
        lines = [json.dumps({"prompt" if k == "original" else k: v for k, v in r.items()}) + "\n" for r in records]
        (place / "records-1-of-1.jsonl").write_text(lines[3] + lines[0] + lines[2] + lines[1][:200])
        (place / "records.jsonl").unlink()
    drawn = []
    run(rewards, folder, on_progress=lambda *progress: drawn.append(progress))
    assert drawn == [("embedded", 4, 4), ("an/other", 4, 4)]
    assert numbers(folder) == numbers(undisturbed[0])
    assert len(list(folder.glob("*/records*"))) == 2
    merge([folder, undisturbed[0]], tmp_path / "whole")
    assert numbers(tmp_path / "whole") == numbers(undisturbed[0])


def test_shards_in_folders_of_their_own(undisturbed, rewards, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert run(rewards[:1], b, shard=(2, 2)) is None
    assert run(rewards, a, shard=(1, 2)) is None and not (a / "results.json").exists()
    with pytest.raises(ValueError, match=r"is not finished: an/other lacks 2 of 4 prompts \(2, 4\)$"):
        merge([a, b], tmp_path / "early")
    assert run(rewards, b, shard=(2, 2)) is None
    whole = tmp_path / "whole"
    merge([b, a], whole)
    assert numbers(whole) == numbers(undisturbed[0])
    run([], whole)  # which is a study like any other
    merge([a, b], a)
    assert numbers(a) == numbers(undisturbed[0])


def test_shards_in_one_folder(undisturbed, rewards, tmp_path):
    """The last one makes the tables; other shards than before take up what is there; a generator can be added."""
    folder = tmp_path / "shared"
    for number in (3, 1):
        assert run(rewards[1:], folder, shard=(number, 3)) is None
    results = run(rewards[1:], folder, shard=(2, 2))
    assert [of["name"] for of in results["settings"]["generators"]] == ["an/other"]
    run(rewards[:1], folder)
    assert numbers(folder) == numbers(undisturbed[0])


def test_a_folder_takes_up_its_own_study_only(undisturbed, rewards, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "copy")
    design = make_design(parse_axes(AXES))
    other_seed = PromptReward(rewards[0].generator, rewards[0].rewards, images_per_prompt=2, seed=1)
    slower = PipelineGenerator(rewards[0].generator.pipeline, GeneratorConfig(steps=2), name="embedded")
    for prompts, of, reward, classes, message in [
        (PROMPTS[:3], design, rewards[0], CLASSES, "prompts.count was 4, and now it is 3"),
        (PROMPTS, design, rewards[0], None, "prompts.digest was"),
        (PROMPTS, make_design(parse_axes("style=anime,booster=8k")), rewards[0], CLASSES, "axes.style was"),
        (PROMPTS, design, other_seed, CLASSES, "seed was 0, and now it is 1"),
        (PROMPTS, design, PromptReward(slower, rewards[0].rewards), CLASSES, "generator.fingerprint was"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            study(prompts, of, [reward], folder, classes=classes)
        assert "give another folder" in str(caught.value) and "\n" not in str(caught.value)
    mixed = tmp_path / "mixed"
    study(PROMPTS, design, [other_seed], mixed, classes=CLASSES, shard=(2, 4))
    with pytest.raises(ValueError, match=r"mixed is no shard of the study in .*copy: seed was 0, and now it is 1"):
        merge([folder, mixed], tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds no study: cannot read settings\.json"):
        merge([tmp_path / "missing"], tmp_path / "out")
    records = next(folder.glob("*/records.jsonl"))
    records.write_text("{}\n" + records.read_text())
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1 is broken"):
        run(rewards, folder)


def test_what_cannot_be_studied(rewards, tmp_path):
    design = make_design(parse_axes(AXES))
    for prompts, shard, classes, message in [
        ([], (1, 1), None, "there are no prompts"),
        (["a cat", " "], (1, 1), None, "the prompt is empty"),
        (["a cat", "a cat"], (1, 1), None, r"prompt 2 \('a cat'\) is prompt 1 again"),
        (["a cat"], (0, 2), None, "there is no shard 0/2"),
        (["a cat"], (3, 2), None, "there is no shard 3/2"),
        (["a cat", "a dog"], (1, 1), {"a cat": "x"}, r"prompt 2 \('a dog'\) has no class"),
        (["a cat"], (1, 1), {"a cat": "all"}, "is of class 'all'"),
    ]:
        with pytest.raises(ValueError, match=message):
            study(prompts, design, rewards, tmp_path / "out", classes=classes, shard=shard)
    assert not (tmp_path / "out").exists()


def test_classes(tmp_path):
    (tmp_path / "p.csv").write_text('prompt,class\na cat,animal\n"a hat, a coat",thing\na dog,\n')
    assert load_classes(f"{tmp_path / 'p.csv'}:2") == {"a cat": "animal", "a hat, a coat": "thing"}
    (tmp_path / "p.jsonl").write_text('{"prompt": "a cat", "class": 1}\n\n"a dog"\n{"prompt": "a hat"}\n')
    assert load_classes(str(tmp_path / "p.jsonl")) == {"a cat": "1"}
    (tmp_path / "plain.csv").write_text("prompt\na cat\n")
    assert load_classes(str(tmp_path / "plain.csv")) == load_classes("partiprompts:200") == {}
    (tmp_path / "two.csv").write_text("prompt,class\na cat,x\na cat,y\n")
    with pytest.raises(ValueError, match="'a cat' is of class 'x', and of class 'y'"):
        load_classes(str(tmp_path / "two.csv"))


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, capsys):
    from neuroprompt.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuroprompt", "study", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_processes_share_the_prompts(command, monkeypatch, tmp_path):
    """As `accelerate launch` and `torchrun` start them, here one after another."""
    (tmp_path / "prompts.csv").write_text("prompt,class\na cat,animal\na hat,thing\na dog,animal\n")
    options = [
        "--axes",
        "booster=8k|sharp focus",
        "--input",
        tmp_path / "prompts.csv",
        "--steps",
        1,
        "--images-per-prompt",
        1,
    ]
    options += ["--rewards", "pickscore"]
    code, out, _ = command(*options, "-o", tmp_path / "one")
    assert code == 0 and "Where does it help?" in out and "class animal" in out
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        code, out, err = command(*options, "-o", tmp_path / "two")
        assert code == 0 and (bool(out), "is done" in err) == ((rank == "0"), (rank == "1"))
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    names = sorted(path.name for path in (tmp_path / "two").glob("embedded-*/records*"))
    assert names == ["records.jsonl"]  # gathered by the last
    code, _, err = command("--merge", tmp_path / "two", tmp_path / "one", "-o", tmp_path / "merged")
    assert code == 0 and "report" in err and numbers(tmp_path / "merged") == numbers(tmp_path / "one")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "p.txt"], "a study needs --axes and --input"),
        (["--axes", "style"], "a study needs --axes and --input"),
        (["--axes", "colour", "--input", "p.txt"], "unknown axis 'colour'"),
        (["--axes", "style", "--input", "missing.txt"], "cannot read missing.txt"),
        (["--axes", "style,vibe", "--input", "p.txt", "--max-combinations", "8"], "cannot tell 8 modifiers apart"),
        (["--axes", "style", "--input", "PROMPTS", "--shard", "3/2"], "there is no shard '3/2'"),
        (["--axes", "style", "--input", "PROMPTS", "--shard", "half"], "there is no shard 'half'"),
        (["--axes", "style", "--input", "PROMPTS", "-g", "embedded,embedded"], "'embedded' is given twice"),
        (["--merge"], "--merge puts folders together"),
        (["somewhere"], "--merge puts folders together"),
        (["--merge", "somewhere"], "somewhere holds no study"),
    ],
)
def test_bad_input_is_one_line(command, tmp_path, arguments, words):
    (tmp_path / "prompts.txt").write_text("a cat\n")
    arguments = [str(tmp_path / "prompts.txt") if of == "PROMPTS" else of for of in arguments]
    code, out, err = command(*arguments, "-o", tmp_path / "out")
    assert code == 2 and out == "" and words in err and err.count("\n") == 1

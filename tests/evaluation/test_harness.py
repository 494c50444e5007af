"""The evaluation on the embedded models, its numbers against naive ones, and kills at any moment."""

import csv
import json
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprompt.decoding import Constraints
from neuroprompt.evaluation.harness import evaluate
from neuroprompt.evaluation.methods import Method, parse_methods
from neuroprompt.evaluation.report import report_html
from neuroprompt.evaluation.summary import (
    csv_rows,
    kept_and_added,
    read_records,
    summarise,
    tables,
)
from neuroprompt.experiments import hold_shard, write_results
from neuroprompt.files import BusyError
from neuroprompt.image_files import read_metadata
from neuroprompt.images import Drawing, ImageGenerator
from neuroprompt.pages.tables import print_tables
from neuroprompt.prompts import Window
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.statistics import bootstrap, compare
from tests import forks

PROMPTS = ["boy on a horse", "a castle", "a red apple", "an owl at night", "two boats"]
SPEC = "pickscore:1.0,aesthetic:0.25,clip:0.5@0.1"


def make_reward():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    rewards = load_rewards(SPEC, model="embedded", device="cpu")
    return PromptReward(generator, rewards, images_per_prompt=2)


def make_methods():
    retold = Method("retold", lambda prompts: [f"oil painting of {p.split()[-1]}" for p in prompts])
    return [*parse_methods("plain,suffix"), retold]


@pytest.fixture(scope="module")
def reward():
    return make_reward()


@pytest.fixture(scope="module")
def undisturbed(reward, tmp_path_factory):
    """An evaluation's folder and results."""
    folder = tmp_path_factory.mktemp("evaluation") / "undisturbed"
    progress = []
    results = evaluate(
        PROMPTS, make_methods(), reward, folder, chunk_size=2, on_progress=lambda *of: progress.append(of)
    )
    assert progress[-1] == (30, 30) and progress == sorted(progress)
    return folder, results


def numbers(folder):
    """All that two runs must have in common, to the byte."""
    results = json.loads((folder / "results.json").read_text())
    del results["latency"], results["commit"]
    results.pop("examples", None)
    for of in results["methods"].values():
        of.pop("examples", None)
    table = (folder / "table.md").read_text().partition("## Latency")[0]
    return json.dumps(results), table, (folder / "results.csv").read_bytes()


def test_the_reward_is_that_of_prompt_reward(undisturbed, reward):
    _, results = undisturbed
    for method in make_methods():
        of = results["methods"][method.name]
        wanted = reward.score(PROMPTS, method(PROMPTS))
        assert of["reward"]["mean"] == pytest.approx(wanted.mean(), abs=1e-3)
        if method.name == "plain":
            assert of["against"] is None and of["reward"] == {"mean": 0.0, "low": None, "high": None}
            continue
        ranked = dict(map(tuple, of["ranked"]))
        np.testing.assert_allclose([ranked[i] for i in range(5)], wanted, atol=1e-3)  # plain's are exactly 0
        assert list(ranked.values()) == sorted(ranked.values(), reverse=True)


def test_each_picture_is_that_of_the_prompts_seeds(undisturbed, reward):
    folder, _ = undisturbed
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [(r["index"], r["method"]) for r in records[:6]] == [
        *((i, m) for m in ("plain", "suffix", "retold") for i in (0, 1))
    ]
    for r in records[::4]:
        images = reward.generator([r["text"]] * 2, reward.seeds(r["original"]))
        for name, scores in reward.rewards([r["original"]] * 2, images).items():
            np.testing.assert_allclose(r["scores"][name], scores.numpy(), atol=2e-4)
        assert r["flagged"] == [False, False] and r["satisfied"] is None


def test_what_is_forbidden_is_the_negative_prompt_of_its_method(reward, tmp_path):
    free = Method("free", lambda prompts: [f"{prompt}, matte" for prompt in prompts])
    careful = Method("careful", free.rewrite, constraints=Constraints(forbid=["blurry", "red"], require=["matte"]))
    evaluate(PROMPTS[:1], [*parse_methods("plain"), free, careful], reward, tmp_path)
    of = {record["method"]: record for record in read_records(tmp_path)}
    assert [record.get("negative") for record in of.values()] == [None, None, "blurry, red"]
    assert of["free"]["text"] == of["careful"]["text"] and of["free"]["scores"] != of["careful"]["scores"]
    assert json.loads((tmp_path / "settings.json").read_text())["methods"]["careful"]["negative"] == "blurry, red"
    (row,) = read_metadata(tmp_path / "examples.png")["neuroprompt"]["rows"]
    assert [cell.get("negative") for cell in row["cells"]] == [None, None, "blurry, red"]


def test_too_long_is_what_the_window_does_not_hold(reward, tmp_path):
    short = reward.replace(window=Window(7, "words", lambda text: len(text.split())))
    results = evaluate(
        ["a castle", "a b c d e f g h i j"], parse_methods("plain,suffix", window=short.window), short, tmp_path
    )
    assert [of["exceed_window"] for of in results["methods"].values()] == [0.5, 0.5]
    assert [record["too_long"] for record in read_records(tmp_path)] == [False, True] * 2
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["window"] == settings["methods"]["suffix"]["window"] == {"tokens": 7, "counter": "words"}


def test_intervals_and_tests_are_those_of_the_statistics(undisturbed):
    folder, results = undisturbed
    rows = list(csv.DictReader((folder / "results.csv").open()))
    values = {m: [float(r["pickscore"]) for r in rows if r["method"] == m] for m in results["methods"]}
    of = results["methods"]["suffix"]
    assert of["scores"]["pickscore"] == pytest.approx(bootstrap(values["suffix"])._asdict())
    wanted = compare(values["suffix"], values["plain"])
    assert of["against"]["pickscore"]["difference"] == pytest.approx(wanted.difference._asdict())
    assert of["against"]["pickscore"]["win_rate"] == wanted.win_rate
    assert of["against"]["pickscore"]["p_value"] == pytest.approx(wanted.p_value)


def test_what_the_texts_look_like(undisturbed, reward):
    folder, results = undisturbed
    plain, suffix, retold = results["methods"].values()
    assert plain["distinct_1"] is None and plain["words_kept"] == plain["keeps_text"] == 1.0
    assert suffix["keeps_text"] == 1.0 and suffix["distinct_tails"] == 0.2
    # "oil painting of": three words for each of five prompts, and two pairs.
    assert retold["keeps_text"] == 0.0 and retold["distinct_1"] == 3 / 15 and retold["distinct_2"] == 2 / 10
    assert retold["words_kept"] == pytest.approx(np.mean([1 / 4, 1 / 2, 1 / 3, 1 / 4, 1 / 2]))
    rows = [r for r in csv.DictReader((folder / "results.csv").open()) if r["method"] == "suffix"]
    clip = next(c.reward for c in reward.rewards.components if c.reward.name == "clip")
    e = clip.encoder.encode_texts([r["text"] for r in rows]).double()
    distances = [1 - float(e[i] @ e[j]) for i in range(5) for j in range(5) if i != j]
    assert suffix["spread"] == pytest.approx(np.mean(distances), abs=1e-5)


def test_examples_are_the_best_median_and_worst(undisturbed):
    folder, results = undisturbed
    for name in ("suffix", "retold"):
        of = results["methods"][name]
        grid = read_metadata(folder / of["examples"])["neuroprompt"]
        best, median, worst = (of["ranked"][i] for i in (0, 2, 4))
        shown = [row["cells"][0]["original"] for row in grid["rows"]]
        assert shown == [PROMPTS[i] for i, _ in (best, median, worst)] and grid["columns"] == ["plain", name]
        assert grid["rows"][0]["title"] == f"best ({best[1]:+.3f}): {shown[0]}"
    middle = read_metadata(folder / results["examples"])["neuroprompt"]
    assert middle["columns"] == ["plain", "suffix", "retold"] and len(middle["rows"]) == 3


def test_the_same_command_twice(undisturbed, reward, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "again")
    evaluate(PROMPTS, make_methods(), reward, folder, chunk_size=2, examples=0)
    assert numbers(folder) == numbers(undisturbed[0])
    assert (folder / "records.jsonl").read_bytes() == (undisturbed[0] / "records.jsonl").read_bytes()
    assert not list(folder.glob("examples*"))  # of before


_KILLED = """
import sys, time
sys.path.insert(0, "tests/evaluation")
import torch
torch.set_num_threads(1)
from test_harness import PROMPTS, evaluate, make_methods, make_reward

def stop(done, total):
    if done == 20:  # in the second chunk of three, after its second method
        print("there", flush=True)
        time.sleep(600)

evaluate(PROMPTS, make_methods(), make_reward(), sys.argv[1], chunk_size=2, examples=0, on_progress=stop)
"""


def test_a_killed_run_ends_with_the_same_numbers(undisturbed, tmp_path):
    folder = tmp_path / "killed"
    log, errors = tmp_path / "log.txt", tmp_path / "errors.txt"
    process = forks.start(["-c", _KILLED, folder], Path.cwd(), log, errors)
    while process.is_alive() and not (log.exists() and log.read_text().endswith("there\n")):
        time.sleep(0.02)
    assert process.is_alive(), errors.read_text()
    process.kill()
    process.join()
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"index": 3, "method": "retold", "te')  # half a line, as a kill may leave it
    progress = []
    evaluate(
        PROMPTS,
        make_methods(),
        make_reward(),  # a fresh one, as after a kill
        folder,
        chunk_size=2,
        examples=0,
        on_progress=lambda done, _: progress.append(done),
    )
    assert progress == [16, 20, 24, 26, 28, 30]  # the first chunk was kept
    assert numbers(folder) == numbers(undisturbed[0])


def old_settings(settings):
    """As version 0.1 wrote them."""
    config = settings["generator"]["config"]
    width, height = config["size"]
    names = {"steps": "num_inference_steps", "guidance": "guidance_scale", "true_cfg": "true_cfg_scale"}
    names |= {"negative": "negative_prompt"}
    old = {}
    for name, value in config.items():
        old |= {"height": height, "width": width} if name == "size" else {names.get(name, name): value}
    return settings | {"generator": settings["generator"] | {"config": old | {"long_prompts": "truncate"}}}


def test_a_folder_that_version_0_1_began_is_taken_up(undisturbed, reward, tmp_path):
    """Under its names of a generator's settings, by two processes that were killed, one in the middle of a line."""
    records = (undisturbed[0] / "records.jsonl").read_bytes().splitlines(keepends=True)
    settings = json.loads((undisturbed[0] / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(old_settings(settings), indent=2) + "\n")
    (tmp_path / "records-1-of-2.jsonl").write_bytes(b"".join([*records[:6], *records[12:14], records[14][:50]]))
    (tmp_path / "records-2-of-2.jsonl").write_bytes(b"".join(records[6:9]))
    drawn = []
    evaluate(PROMPTS, make_methods(), reward, tmp_path, chunk_size=2, on_progress=lambda done, _: drawn.append(done))
    assert drawn == [16, 20, 24, 26, 28, 30]  # the first chunk is kept
    assert numbers(tmp_path) == numbers(undisturbed[0])
    assert [path.name for path in tmp_path.glob("records*")] == ["records.jsonl"]


def test_methods_by_their_old_names_are_read_and_reported(undisturbed, tmp_path):
    """As ``sft`` and ``ppo`` stand in results of version 0.1."""
    settings = json.loads((undisturbed[0] / "settings.json").read_text())
    names = dict(zip(settings["methods"], ("plain", "sft", "ppo"), strict=True))
    settings["methods"] = {names[name]: facts for name, facts in settings["methods"].items()}
    (tmp_path / "settings.json").write_text(json.dumps(old_settings(settings)))
    with (tmp_path / "records.jsonl").open("w") as file:
        for record in read_records(undisturbed[0]):
            file.write(json.dumps(record | {"method": names[record["method"]]}) + "\n")
    results = summarise(tmp_path, references=["sft"])
    for old, name in zip(names.values(), undisturbed[1]["methods"], strict=True):
        assert results["methods"][old]["scores"] == undisturbed[1]["methods"][name]["scores"]
    results["settings"] = old_settings(results["settings"])  # as an old results.json has them
    write_results(tmp_path, results, "Evaluation", tables(results), csv_rows(results, tmp_path))
    assert "| ppo |" in (tmp_path / "table.md").read_text() and "Against sft" in report_html(results, tmp_path)
    assert "embedded, 1 step, guidance 3" in report_html(results, tmp_path)


def test_a_line_that_was_torn_when_all_was_there_is_cut_off(undisturbed, tmp_path, reward):
    shutil.copytree(undisturbed[0], tmp_path / "torn")
    records = tmp_path / "torn" / "records.jsonl"
    whole = records.read_bytes()
    records.write_bytes(whole + whole[:70])
    results = evaluate(PROMPTS, make_methods(), reward, tmp_path / "torn", chunk_size=2, examples=0)
    assert records.read_bytes() == whole and results["methods"].keys() == undisturbed[1]["methods"].keys()


def test_a_broken_line_is_named(undisturbed, tmp_path, reward):
    """Which no kill leaves: a power cut may."""
    shutil.copytree(undisturbed[0], tmp_path / "broken")
    records = tmp_path / "broken" / "records.jsonl"
    lines = records.read_bytes().split(b"\n")
    lines[3] = b"\0" * len(lines[3])
    records.write_bytes(b"\n".join(lines))
    for read in (
        lambda: evaluate(PROMPTS, make_methods(), reward, tmp_path / "broken", chunk_size=2),
        lambda: summarise(tmp_path / "broken"),
    ):
        with pytest.raises(ValueError, match=r"records\.jsonl, line 4 is broken \(.*cut the file off before it"):
            read()


def test_a_shard_has_one_writer_and_the_end_has_one(undisturbed, reward, tmp_path):
    def elsewhere(shard, held):
        """Another thread, which is another process to the locks, while this one holds a shard."""
        few = {"chunk_size": 2, "examples": 0, "shard": shard}
        with ThreadPoolExecutor(1) as pool, hold_shard(tmp_path, held):
            return pool.submit(evaluate, PROMPTS, make_methods(), reward, tmp_path, **few).result()

    with pytest.raises(BusyError, match=r"records-1-of-2\.jsonl is being written by process"):
        elsewhere(shard=(1, 2), held=(1, 2))
    evaluate(PROMPTS, make_methods(), reward, tmp_path, chunk_size=2, shard=(1, 2), examples=0)
    assert elsewhere(shard=(2, 2), held=(1, 1)) is None  # all is there, and the end is somebody else's
    assert not (tmp_path / "results.json").exists()
    assert evaluate(PROMPTS, make_methods(), reward, tmp_path, chunk_size=2, examples=0)
    assert numbers(tmp_path) == numbers(undisturbed[0])
    assert [path.name for path in tmp_path.iterdir() if "records" in path.name] == ["records.jsonl"]


@pytest.mark.parametrize("shards", [2, 4])
def test_processes_share_the_chunks(undisturbed, reward, tmp_path, shards):
    """The last one to end makes the results, which are those of one process; so are those of a run that was begun by
    several and ended by one."""
    order = [*range(2, shards + 1), 1]
    results = [
        evaluate(PROMPTS, make_methods(), reward, tmp_path, chunk_size=2, shard=(i, shards), examples=0) for i in order
    ]
    assert results[:-1] == [None] * (shards - 1) and results[-1]
    assert numbers(tmp_path) == numbers(undisturbed[0])
    assert [r["text"] for r in read_records(tmp_path)] == [r["text"] for r in read_records(undisturbed[0])]
    assert [path.name for path in tmp_path.glob("*records*")] == ["records.jsonl"]
    begun = tmp_path / "begun"
    assert evaluate(PROMPTS, make_methods(), reward, begun, chunk_size=2, shard=(2, 2), examples=0) is None
    drawn = []
    evaluate(
        PROMPTS, make_methods(), reward, begun, chunk_size=2, examples=0, on_progress=lambda done, _: drawn.append(done)
    )
    assert drawn == [16, 20, 24, 26, 28, 30]  # the second chunk was there
    assert numbers(begun) == numbers(undisturbed[0])


def test_a_folder_takes_up_its_own_evaluation_only(undisturbed, reward, tmp_path):
    folder, _ = undisturbed
    methods = make_methods()
    for prompts, of, judge, chunk, message in [
        (PROMPTS[:4], methods, reward, 2, r"prompts.count was 5, and now it is 4"),
        ([*PROMPTS[:4], "a cat"], methods, reward, 2, r"prompts.digest was"),
        (
            PROMPTS,
            methods,
            PromptReward(reward.generator, reward.rewards, images_per_prompt=2, seed=1),
            2,
            r"seed was 0, and now it is 1",
        ),
        (
            PROMPTS,
            methods,
            PromptReward(reward.generator, reward.rewards, relative="none"),
            2,
            r"rewards.pickscore.relative was True, and now it is Fa",
        ),
        (PROMPTS, methods, reward, 3, r"chunk_size was 2, and now it is 3"),
        (PROMPTS, methods[:2], reward, 2, r"methods.retold was {}, and now it is not there"),
        (PROMPTS, [*methods[:2], Method("retold", list, {"seed": 1})], reward, 2, r"methods.retold"),
        (PROMPTS, [methods[0], methods[2], methods[1]], reward, 2, "in another order"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            evaluate(prompts, of, judge, folder, chunk_size=chunk)
        assert "give another folder" in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"holds records and no settings\.json"):
        evaluate(PROMPTS, methods, reward, tmp_path)


def test_what_cannot_be_evaluated(reward, tmp_path):
    plain, suffix, _ = make_methods()
    short = tmp_path / "human.txt"
    short.write_text("a rider\n")
    for prompts, methods, message in [
        ([], [plain], "no prompts"),
        (PROMPTS, [], "no methods"),
        (["a cat", "a dog", "a cat"], [plain], r"prompt 3 \('a cat'\) is prompt 1 again"),
        (PROMPTS, [plain, plain], "'plain' is given twice"),
        (PROMPTS, [suffix], "add the method plain, or set relative to none"),
        (PROMPTS, [plain, *parse_methods(f"file:{short}")], "has 1 prompt for 5 plain ones"),
        (["a cat"], [plain, Method("empty", lambda prompts: [" "])], "an empty one"),
        (["a cat"], [plain, Method("two", lambda prompts: ["a", "b"])], "made 2 prompts of 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate(prompts, methods, reward, tmp_path / "out")
        for file in (tmp_path / "out").glob("*"):
            file.unlink()


def test_written_prompts_are_shared_out_to_the_chunks(reward, tmp_path):
    path = tmp_path / "human.txt"
    path.write_text("".join(f"{p} at dawn\n" for p in PROMPTS[:3]))
    judge = PromptReward(reward.generator, reward.rewards, relative="none", images_per_prompt=1)
    results = evaluate(PROMPTS[:3], parse_methods(f"file:{path}"), judge, tmp_path / "out", chunk_size=2, examples=0)
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert [r["text"] for r in rows] == [f"{p} at dawn" for p in PROMPTS[:3]]
    assert len(tables(results)) == 4  # nothing to compare with
    assert not list((tmp_path / "out").glob("examples*"))


def test_tails_of_other_prompts_are_written_once_whatever_kills_the_run(reward, tmp_path):
    prompts, reward = [*PROMPTS, "a cup of tea"], reward.replace(images_per_prompt=1)
    plain, own, swapped = parse_methods("plain,random,swapped:random")

    def run(folder, asked, stop_asking=None, stop_drawing=None):
        def rewrite(chunk):
            if len(asked) == stop_asking:
                raise KeyboardInterrupt
            asked.extend(chunk)
            return own.rewrite(chunk)

        def on_progress(done, total):
            if done == stop_drawing:
                raise KeyboardInterrupt

        counted = replace(own, rewrite=rewrite)
        methods, more = [plain, counted, replace(swapped, of=counted)], {"chunk_size": 2, "examples": 0}
        return evaluate(prompts, methods, reward, folder, references=[swapped.name], on_progress=on_progress, **more)

    results = run(tmp_path / "undisturbed", asked := [])
    assert asked == prompts and results["latency"]["random"] > 0
    written = {record["method"]: [] for record in read_records(tmp_path / "undisturbed")}
    for record in read_records(tmp_path / "undisturbed"):
        written[record["method"]].append(record["text"])
    assert written["random"] == own(prompts) and written[swapped.name] == swapped(prompts)
    against = results["references"][swapped.name]["random"]["reward"]["difference"]
    assert against["low"] < against["mean"] < against["high"]
    assert f"Against {swapped.name}" in (tmp_path / "undisturbed" / "table.md").read_text()
    asked = []
    for stop in ({"stop_asking": 2}, {"stop_drawing": 8}):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", asked, **stop)
    run(tmp_path / "killed", asked)
    assert asked == prompts and numbers(tmp_path / "killed") == numbers(tmp_path / "undisturbed")


def test_faults_are_counted_of_every_method_but_not_what_was_asked_for(reward, tmp_path):
    prompts = ["a cat", "pencil sketch of a fox, 8k", "a castle"]
    texts = ["a cat, 4k, uhd, by artgerm", "pencil sketch of a fox, 8k, octane render", "a castle, sharp foc"]
    judge = PromptReward(reward.generator, reward.rewards, relative="none", images_per_prompt=1)
    wish = Constraints(require=["foc", "8k"], artist="artgerm")
    methods = [
        Method("a peer", lambda asked: [texts[prompts.index(p)] for p in asked]),
        Method("asked", lambda asked: ["a cat, sharp foc, 8k, by artgerm"] * 3, {"constraints": asdict(wish)}, wish),
        *parse_methods("plain"),
    ]
    results = evaluate(prompts, methods, judge, tmp_path / "out", examples=0)
    peer, asked, plain = (results["methods"][name]["faults"] for name in ("a peer", "asked", "plain"))
    assert set(peer.values()) == {1 / 3} and not any(plain.values())
    assert asked == {"contradictions": 0, "repetitions": 0, "broken_words": 0, "living_artists": 0}
    rows = [r for r in csv.DictReader((tmp_path / "out" / "results.csv").open()) if r["method"] == "a peer"]
    found = [
        [row[name] for name in ("contradictions", "repetitions", "broken_words", "living_artists")] for row in rows
    ]
    assert found[0] == ["", "4k + uhd", "", "artgerm"]
    assert found[1:] == [["pencil sketch + octane render", "", "", ""], ["", "", "foc", ""]]
    table = next(table for table in tables(results) if table.title == "Faults")
    assert ["a peer", *["33.3%"] * 4] in table.rows


class Flagging:
    """The embedded generator, and a safety checker that objects to a word."""

    def __init__(self, generator, bad):
        self.generator, self.bad = generator, bad
        self.config, self.fingerprint, self.name = generator.config, generator.fingerprint, generator.name

    def draw(self, prompts, seeds, negatives=None):
        images = self.generator.draw(prompts, seeds, negatives).images
        flagged = torch.tensor([self.bad in p and s % 2 == 0 for p, s in zip(prompts, seeds, strict=True)])
        return Drawing(images * ~flagged[:, None, None, None], flagged)


def test_flagged_pictures_cost_the_reward_and_leave_the_scores(reward, tmp_path):
    judge = PromptReward(Flagging(reward.generator, "oil"), reward.rewards, images_per_prompt=2)
    plain, _, retold = make_methods()
    results = evaluate(PROMPTS[:2], [plain, retold], judge, tmp_path, examples=0)
    of = results["methods"]["retold"]
    assert of["flagged"] == 0.5 and results["methods"]["plain"]["flagged"] == 0.0  # one of two seeds is even
    assert of["reward"]["mean"] == pytest.approx(judge.score(PROMPTS[:2], retold(PROMPTS[:2])).mean(), abs=1e-3)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    by = {(r["index"], r["method"]): r for r in records}
    differences = []
    for i in range(2):
        k = by[i, "retold"]["flagged"].index(False)  # compared on the seed that both have
        differences.append(by[i, "retold"]["scores"]["aesthetic"][k] - by[i, "plain"]["scores"]["aesthetic"][k])
    assert of["against"]["aesthetic"]["difference"]["mean"] == pytest.approx(np.mean(differences))


def write_folder(folder, scores, flagged, rewards, flagged_reward=-2.0):
    """An evaluation's folder from raw scores: {reward: (methods, prompts, seeds)}; the first method is plain."""
    methods, n, k = flagged.shape
    names = ["plain", *(f"m{i}" for i in range(1, methods))]
    of = {
        "prompts": {"count": n, "digest": ""},
        "methods": {name: {} for name in names},
        "rewards": rewards,
        "generator": {"name": "embedded", "config": {"num_inference_steps": 1, "guidance_scale": 3.0}},
        "images_per_prompt": k,
        "flagged_reward": flagged_reward,
        "chunk_size": n,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(of))
    with (folder / "records.jsonl").open("w") as file:
        for m, name in enumerate(names):
            for i in range(n):
                record = {
                    "index": i,
                    "method": name,
                    "original": f"a <b>cat</b> {i}",
                    "text": f"a <b>cat</b> {i}" + ", <script>alert(1)</script> & oil" * bool(m),
                    "scores": {r: [float(v) if np.isfinite(v) else None for v in s[m, i]] for r, s in scores.items()},
                    "flagged": flagged[m, i].tolist(),
                    "seconds": 0.5,
                    "clip_tokens": 80 * m,
                    "satisfied": i % 2 == 0,
                }
                file.write(json.dumps(record) + "\n")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 6))
def test_numbers_from_raw_scores(seed, k, n):
    """Against the definition, one picture at a time, with flagged pictures and scores that are none."""
    rng = np.random.default_rng(seed)
    scores = {name: rng.normal(size=(2, n, k)) for name in ("a", "b")}
    scores["a"][rng.random((2, n, k)) < 0.1] = np.nan
    flagged = rng.random((2, n, k)) < 0.2
    rewards = {
        "a": {"weight": 2.0, "cap": None, "scale": 0.5, "relative": True},
        "b": {"weight": 1.0, "cap": 0.3, "scale": 1.0, "relative": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), scores, flagged, rewards)
        results = summarise(folder)
        write_results(
            folder, results, "Evaluation", tables(results), csv_rows(results, folder)
        )  # and nothing in it is NaN
    values = np.full((n, k), np.nan)
    for i in range(n):
        base = [scores["a"][0, i, j] for j in range(k) if not flagged[0, i, j]]
        for j in range(k):
            a, b = scores["a"][1, i, j], min(scores["b"][1, i, j], 0.3)
            known = [score for score in base if np.isfinite(score)]
            gain = a - np.mean(known) if known else np.nan if base else 0.0
            values[i, j] = 2.0 / 0.5 * gain + (b - 0.3)
    others = values[~flagged[1] & np.isfinite(values)]
    for i, j in zip(*np.nonzero(flagged[1]), strict=True):  # worth 2 less than the original's pictures are
        plain = [min(scores["b"][0, i, s], 0.3) - 0.3 for s in range(k) if not flagged[0, i, s]]
        plain = [worth for worth in plain if np.isfinite(worth)] or list(others) or [0.0]
        values[i, j] = np.mean(plain) - 2.0
    wanted = [np.nanmean(row) for row in values if np.isfinite(row).any()]
    got = results["methods"]["m1"]["reward"]
    assert (got["mean"] if got else None) == (pytest.approx(np.mean(wanted)) if wanted else None)
    pairs = [
        [scores["b"][1, i, j] - scores["b"][0, i, j] for j in range(k) if not flagged[:, i, j].any()] for i in range(n)
    ]
    means = [np.mean(of) for of in pairs if of]
    against = results["methods"]["m1"]["against"]["b"]
    assert (against and against["prompts"]) == (len(means) or None)
    if means:
        assert against["difference"]["mean"] == pytest.approx(np.mean(means))
        assert against["win_rate"] == pytest.approx(np.mean([m > 0 for m in means]))
    assert results["methods"]["m1"]["exceed_window"] == 1.0 and results["latency"]["m1"] == 0.5
    assert results["methods"]["plain"]["satisfied"] == pytest.approx(np.mean([i % 2 == 0 for i in range(n)]))


def test_further_references(tmp_path, reward):
    scores = {"a": np.random.default_rng(0).normal(size=(3, 20, 2))}
    rewards = {"a": {"weight": 1.0, "cap": None, "scale": 1.0, "relative": True}}
    write_folder(tmp_path, scores, np.zeros((3, 20, 2), bool), rewards)
    results = summarise(tmp_path, references=["m1"])
    per_prompt = scores["a"].mean(2)
    of = results["references"]["m1"]
    assert list(of) == ["plain", "m2"]
    wanted = compare(per_prompt[2], per_prompt[1])
    for name in ("reward", "a"):
        found = of["m2"][name]
        assert found["difference"] == pytest.approx(wanted.difference._asdict())
        assert (found["win_rate"], found["p_value"], found["prompts"]) == (wanted.win_rate, wanted.p_value, 20)
    assert [t.title for t in tables(results)][1:3] == ["Against plain", "Against m1"]
    for wrong in ("plain", "sft"):
        with pytest.raises(ValueError, match="must be among the methods, and not the first"):
            evaluate(PROMPTS[:2], make_methods(), reward, tmp_path / wrong, references=[wrong])


def test_where_few_prompts_have_a_value_there_is_a_mean_alone(tmp_path):
    """Eight prompts, of which three have a score that is one: no interval, and so nothing that looks like a finding."""
    scores = {name: np.random.default_rng(0).normal(size=(2, 8, 2)) for name in ("a", "b")}
    rewards = {name: {"weight": float(name == "a"), "cap": None, "scale": 1.0, "relative": True} for name in scores}
    scores["b"][1, 3:] = np.nan
    write_folder(tmp_path, scores, np.zeros((2, 8, 2), bool), rewards)
    results = summarise(tmp_path)
    told = results["methods"]["m1"]
    assert told["scores"]["b"] == {"mean": pytest.approx(scores["b"][1, :3].mean()), "low": None, "high": None}
    assert told["against"]["b"]["difference"]["low"] is None and told["against"]["b"]["prompts"] == 3
    assert told["scores"]["a"]["low"] is not None and told["against"]["a"]["difference"]["low"] is not None
    made = {table.title: table for table in tables(results)}
    assert made["Rewards"].note.endswith("the same for all; a mean alone is of fewer than 6 prompts.")
    assert ["[" in cell for cell in made["Rewards"].rows[1]] == [False, True, True, False]
    assert ["[" in cell for cell in made["Against plain"].rows[0]] == [False, True, False, False, True, False]


def test_words_kept_and_added():
    assert kept_and_added("a red fox", "a red fox, 8K, a hill") == (1.0, ["8k", "a", "hill"])
    assert kept_and_added("A red fox", "the fox in a RED coat") == (1.0, ["the", "in", "coat"])
    assert kept_and_added("a fox, a hen", "a fox alone") == (0.5, ["alone"])
    assert kept_and_added("…", "x") == (1.0, ["x"])


def test_tables_can_be_printed(undisturbed, capsys):
    _, results = undisturbed
    print_tables(tables(results))
    shown = capsys.readouterr().out
    assert "Against plain" in shown and "retold" in shown and "s/prompt" in shown
    markdown = (undisturbed[0] / "table.md").read_text()
    assert markdown.startswith("# Evaluation\n\n## Rewards\n\n5 prompts: too few to tell methods apart")
    assert "| plain | 0" in markdown and "[" not in markdown

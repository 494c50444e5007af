import csv
import json

import numpy as np
import pytest

from neuroprompt.evaluation.atoms import against_plain, atom_tables, lost_and_gained, read_answers
from neuroprompt.evaluation.harness import evaluate
from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.evaluation.summary import summarise, tables
from neuroprompt.images import ImageGenerator
from neuroprompt.questions import Question, read_questions, rules, write_questions
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from tests.checkpoints.vision_language import smolvlm

FOX = (Question("Is there a fox?"), Question("Is the fox red?", "colour", (0,)))


def test_what_a_method_loses_and_gains_is_counted_by_prompts_and_seeds():
    plain = {0: np.array([[0.9, 0.9], [0.9, 0.1]]), 1: np.array([[0.1, 0.0], [np.nan, np.nan]])}
    own = {0: np.array([[0.9, 0.2], [0.2, 0.0]]), 1: np.array([[0.9, 0.9], [0.9, 0.9]])}
    found = against_plain(own, plain, {0: FOX, 1: FOX})
    assert {kind: row["asked"] for kind, row in found.items()} == {"all": 4, "entity": 2, "colour": 2}
    # Of the first prompt one of two foxes is lost, and of the second, whose flagged picture does not count, one gained.
    assert (found["entity"]["plain"], found["entity"]["lost"], found["entity"]["gained"]) == (0.5, 0.25, 0.5)
    assert (found["colour"]["plain"], found["colour"]["lost"], found["colour"]["gained"]) == (0.25, 0.25, 0.5)
    assert all(np.isclose(row["difference"]["mean"], row["gained"] - row["lost"]) for row in found.values())
    table = atom_tables({"plain": {"atoms": None}, "enhanced": {"atoms": {"atoms": found}}, "older": {}})[0]
    assert table.rows[1] == ["enhanced, entity", "2", "50.0%", "25.0%", "50.0%", "+0.250"]


def test_the_questions_themselves():
    plain, own = np.array([[0.9, 0.9], [0.8, 0.1], [np.nan, np.nan]]), np.array([[0.1, 0.0], [0.2, 0.0], [0.1, 0.0]])
    assert lost_and_gained(own, plain, FOX) == (["Is there a fox?", "Is the fox red?"], [])
    assert lost_and_gained(plain, own, FOX) == ([], ["Is there a fox?", "Is the fox red?"])


def test_records_without_answers_are_older_ones():
    assert read_answers({"flagged": [False]}) == {}
    scores = read_answers({"flagged": [True, False], "answers": {"atoms": [[0.1, 0.2], [0.3, None]]}})["atoms"]
    assert np.array_equal(scores, [[np.nan, np.nan], [0.3, np.nan]], equal_nan=True)


def test_an_evaluation_keeps_every_answer_and_tells_what_was_lost(tmp_path):
    prompts, folder = ["a red apple", "two owls"], tmp_path / "evaluation"
    known = {"two owls": (Question("Are there owls?"), Question("Is there no dog?", "entity", (), "no"))}
    write_questions(tmp_path / "mine.json", known)
    model = smolvlm(tmp_path / "smolvlm")
    draw = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)

    def run(atoms):
        rewards = load_rewards(f"atoms[{model}]", atoms=atoms, device="cpu")
        reward = PromptReward(draw, rewards, images_per_prompt=2)
        return evaluate(prompts, parse_methods("plain,suffix"), reward, folder, examples=0)

    results = run(tmp_path / "mine.json")
    asked = read_questions(folder / "questions.json")  # which can be given to another evaluation
    assert asked == known | {"a red apple": rules("a red apple")}
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for record in records:
        soft = np.array(record["answers"]["atoms"])
        assert soft.shape == (2, len(asked[record["original"]]))
        assert soft.mean(1) == pytest.approx(record["scores"]["atoms"], abs=1e-6)
    assert results["methods"]["plain"]["atoms"] is None
    assert results["methods"]["suffix"]["atoms"]["atoms"]["all"]["asked"] == 4
    table = next(table for table in tables(results) if table.title == "What pictures show: atoms")
    assert [row[0] for row in table.rows] == ["suffix, all", "suffix, entity", "suffix, colour"]
    assert table.title in (folder / "report.html").read_text()
    rows = list(csv.DictReader((folder / "results.csv").open(newline="")))
    assert all(row["atoms_lost"] == row["atoms_gained"] == "" for row in rows if row["method"] == "plain")
    with pytest.raises(ValueError, match="holds another evaluation"):
        run(None)
    # A folder of before there were questions.
    (folder / "questions.json").unlink()
    older = ({key: value for key, value in record.items() if key != "answers"} for record in records)
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in older))
    assert summarise(folder)["methods"]["suffix"]["atoms"] is None

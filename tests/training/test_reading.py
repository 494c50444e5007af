"""The reading: its prompts, and verdicts that belong to the texts that were read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.coherence import contradictions
from neuroprompt.completions import check_prompt
from neuroprompt.decoding import Constraints
from neuroprompt.terminal import visible
from training.embedded.reading import (
    QUESTIONS,
    ROOT,
    RUBRIC,
    SEEDS,
    STALE,
    Question,
    Reading,
    as_document,
    as_table,
    read_questions,
    read_verdicts,
    renew,
)

FREE, CONSTRAINED = map(read_questions, QUESTIONS.values())
FOX = Question("animals", "a fox in the snow")
SHIP = Question("two clauses", "a ship", '{"style": "baroque", "require": ["red sails"]}')


def test_the_prompts_are_of_every_kind_and_no_policy_has_seen_them():
    assert len(FREE) == 100 and len({q.kind for q in FREE}) == 15
    assert len(CONSTRAINED) == 40 and len({q.kind for q in CONSTRAINED}) == 5
    asked = {q.prompt.casefold() for q in (*FREE, *CONSTRAINED)}
    assert len(asked) == 140
    for split in ("train", "validation"):
        queries = (ROOT / "configs/ppo/queries" / f"{split}.txt").read_text("utf-8").casefold()
        assert not asked & set(queries.splitlines())


@pytest.mark.parametrize("question", CONSTRAINED, ids=lambda question: question.prompt)
def test_constraints_of_the_reading_can_be_met_and_make_sense(question):
    wish = Constraints(**json.loads(question.constraints))
    check_prompt(question.prompt, wish)
    assert ["one", "two", "three", "four", "five"].index(question.kind.split()[0]) == len(wish.clauses) - 1
    assert not contradictions(", ".join([question.prompt, *(phrases[0] for phrases in wish.clauses)]))


def test_a_verdict_stays_with_its_text_and_is_stale_with_another(enhancer):
    first = renew([FOX, SHIP], [], enhancer)
    assert [r.seed for r in first] == [*SEEDS] * 2 and not any(r.verdict for r in first)
    assert all("red sails" in r.added and r.constraints == SHIP.constraints for r in first[3:])

    known = [r._replace(verdict="good") for r in first]
    known[0] = known[0]._replace(verdict="bland", why="fits anything")
    known[3] = stale = first[3]._replace(verdict=STALE, why="another text was good")
    known[4] = known[4]._replace(added=", what it wrote once")
    again = renew([FOX, SHIP], known, enhancer)
    assert again[0] == known[0] and again[1] == known[1] and again[3] == stale
    assert again[4] == first[4]._replace(verdict=STALE, why="another text was good")


TEXTS = st.text().map(visible)
READINGS = st.builds(Reading, st.sampled_from(["", STALE, *RUBRIC]), TEXTS, st.integers(0, 9), TEXTS, TEXTS, TEXTS)


@given(st.lists(READINGS))
def test_any_text_comes_back_from_the_table(tmp_path_factory, readings):
    path = tmp_path_factory.mktemp("table") / "reading.tsv"
    path.write_text(as_table(readings), "utf-8")
    assert read_verdicts(path) == readings


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fine\tso\t0\ta fox\t\t, 8k\n", "line 1: no verdict 'fine': choose from good, bland"),
        ("good\tso\t0\ta fox\n", "line 1: not verdict, why, seed, prompt, constraints, added"),
        ("good\tso\tzero\ta fox\t\t, 8k\n", "line 1: not verdict, why"),
    ],
)
def test_a_line_that_is_no_verdict_is_named(tmp_path, line, message):
    (tmp_path / "reading.tsv").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_verdicts(tmp_path / "reading.tsv")


def test_the_document_counts_and_shows_every_verdict():
    tag = Question("odd", "<lora:a_b:1> | *x*")
    readings = [
        Reading("good", "", 0, *FOX[1:], ", oil painting"),
        Reading("bland", "fits anything", 1, *FOX[1:], ", 8k"),
        Reading(STALE, "another text was good", 2, *FOX[1:], ", hdr"),
        Reading("good", "", 0, *tag[1:], ""),
        Reading("", "", 0, *SHIP[1:], ", red sails"),
    ]
    text = as_document({"Free": [FOX, tag], "Bound": [SHIP]}, readings, "embedded")
    assert "| all | 2 | 1 |  |  |  | 1 |  |" in text and "| two clauses |  |  |  |  |  |  | 1 |" in text
    for line in (
        "- good: …, oil painting",
        "- **bland** (fits anything): …, 8k",
        "- **stale** (another text was good): …, hdr",
        "- good: nothing is added",
        "- **to be read**: …, red sails",
        "**a ship** (style baroque; require red sails)",
        r"**\<lora:a_b:1\> \| \*x\***",
    ):
        assert f"\n{line}\n" in text
    assert all(f"- **{verdict}**: {meaning}." in text for verdict, meaning in RUBRIC.items())


TABLE = ROOT / "results" / "reading.tsv"
needs_verdicts = pytest.mark.skipif(not TABLE.exists(), reason="nothing has been read yet")


@needs_verdicts
def test_the_document_is_made_of_the_verdicts():
    questions = dict(zip(QUESTIONS, (FREE, CONSTRAINED), strict=True))
    assert (ROOT / "docs/rewrites.md").read_text("utf-8") == as_document(questions, read_verdicts(TABLE), "embedded")


@needs_verdicts
@pytest.mark.parametrize("every", [24, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_what_was_read_is_what_the_policy_writes(enhancer, every):
    questions, known = (FREE + CONSTRAINED)[::every], read_verdicts(TABLE)
    asked = {q[1:] for q in questions}
    assert renew(questions, known, enhancer) == [r for r in known if (r.prompt, r.constraints) in asked]

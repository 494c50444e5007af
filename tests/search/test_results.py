"""What comes back."""

import json

import numpy as np
import pytest

from neuroprompt.data import PromptData, split_of
from neuroprompt.search import Measurement, pareto_front, to_pairs
from tests.search.world import search


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (60, 2)).astype(float)
    measured = [
        Measurement(str(i), (), 0.0, {"clip": c, "aesthetic": a}, 1, i % 7 > 0) for i, (c, a) in enumerate(points)
    ]
    front = pareto_front(measured, ("clip", "aesthetic"))
    allowed = [m for m in measured if m.allowed]
    for m in allowed:
        beaten = any(
            o.scores["clip"] >= m.scores["clip"]
            and o.scores["aesthetic"] >= m.scores["aesthetic"]
            and o.scores != m.scores
            for o in allowed
        )
        assert (m in front) == (not beaten)
    clip = [m.scores["clip"] for m in front]
    assert clip == sorted(clip, reverse=True)
    result = search("a castle")
    assert result.axes == ("clip", "aesthetic") and result.front == pareto_front(result.measured, result.axes)
    assert json.loads(json.dumps(result.to_dict()))["front"][0]["text"] == result.front[0].text


def test_finds_become_pairs_that_training_reads(tmp_path):
    results = search([f"a castle number {i}" for i in range(6)], "best-of-n", 20)
    good = [r for r in results if r.held_out > 0.2 and r.text != r.original]
    assert 0 < len(good)
    to_pairs(results, tmp_path / "finds", least=0.2)
    data = PromptData.load(tmp_path / "finds")
    rows = [row for split in data.pairs.values() for row in split]
    assert {r["prompt"] + r["completion"] for r in rows} == {r.text for r in good}
    assert all(split_of(row["prompt"]) == name for name, split in data.pairs.items() for row in split)
    assert set(data.pairs["train"].column_names) == {"prompt", "completion", "medium"}
    more = to_pairs(results, tmp_path / "more", least=0.2, add_to=tmp_path / "finds", copies=2)
    assert len(more.pairs["train"]) == 3 * len(data.pairs["train"])
    errors = sorted((r.held_out - 0.2) / r.held_out_error for r in good)
    sure = to_pairs(results, tmp_path / "sure", least=0.2, errors=errors[len(good) // 2], held_out=0.5)
    assert sum(map(len, sure.pairs.values())) == len(good) - len(good) // 2 - 1
    assert sure.pairs.keys() <= {"train", "validation"}
    with pytest.raises(ValueError, match="more than 99 and 2 standard errors"):
        to_pairs(results, tmp_path / "none", least=99, errors=2)
    with pytest.raises(ValueError, match="more than 99"):
        to_pairs(results, tmp_path / "none", least=99)

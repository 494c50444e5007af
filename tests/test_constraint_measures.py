"""What `benchmarks/constraints.py` says of rewrites under constraints."""

import json

import pytest

from benchmarks.constraints import LIKELY, PROMPTS, Pair, draw_pairs, main, placements, summarise
from neuroprompt.coherence import contradictions
from neuroprompt.completions import check_prompt
from neuroprompt.decoding import Constraints, check
from neuroprompt.enhancer import EnhancedPrompt, Modifier
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import Prompt


@pytest.mark.parametrize(
    ("added", "phrase", "placed"),
    [
        (", oil painting, 8k", "oil painting", "delimited"),
        (", 8k, Oil Painting", "oil painting", "delimited"),
        (", painting by claude monet", "claude monet", "delimited"),
        (", in the style of claude monet, 8k", "claude monet", "delimited"),
        (" by claude monet, 8k", "claude monet", "delimited"),
        (" claude monet, 8k", "claude monet", "within"),  # within the prompt's own clause
        (", award oil painting", "oil painting", "within"),
        (", oil painting of a red hat", "oil painting", "within"),
        (", surrounded by red hats, a red hat", "red hat", "within"),
        (", award oil painting, oil painting", "oil painting", "delimited"),
        (", 8k, 富士山", "富士山", "delimited"),
        (", 8k,富士山", "富士山", "within"),
        (", 8k、富士山", "富士山", "delimited"),
        (", <lora:retro:0.6>", "<lora:retro:0.6>", "delimited"),
        (", 8k", "oil painting", None),
    ],
)
def test_where_a_required_phrase_stands(added, phrase, placed):
    assert list(placements(f"a cat{added}", Constraints(require=phrase), "a cat")) == [placed]


def test_a_phrase_of_the_prompt_itself_is_not_the_rewrites():
    wish = Constraints(require=["cat", "8k"])
    assert list(placements("a cat, cat, 8k", wish, "a cat")) == ["delimited"]


def test_pairs_are_the_same_for_everybody_and_make_sense():
    prompts = [line.prompt for line in read_lines(str(PROMPTS))]
    pairs = draw_pairs(prompts, 250)
    assert pairs == draw_pairs(prompts, 250) != draw_pairs(prompts, 250, seed=1)
    assert [pair.seed for pair in pairs[::100]] == [0, 1, 2]
    counts = set()
    for pair in pairs:
        wish = Constraints(**pair.constraints)
        check_prompt(pair.prompt, wish)
        assert len(wish.forbid) == 3 and set(wish.forbid) <= set(LIKELY)
        said = ", ".join([pair.prompt, *(phrase for (phrase,) in wish.clauses)])
        assert contradictions(said) == contradictions(pair.prompt)
        counts.add(len(wish.clauses))
    assert counts == {1, 2, 3, 4, 5}


def _rewrite(added, wish=None):
    segments = Prompt.parse(added).segments
    text = f"a cat{added}"
    satisfaction = check(text, wish) if wish else None
    return EnhancedPrompt("a cat", text, tuple(Modifier(s, None) for s in segments), -1.0, constraints=satisfaction)


def test_every_fault_is_counted():
    arguments = {"require": ["red hat"], "forbid": ["8k"]}
    wish = Constraints(**arguments)
    added = [
        ", red hat, fog",
        ", Red hat, fog",  # another case, a shared tail
        ", red red hat, 8k",
        ", [[fog], red hat",
        ", post-produ, red hat",
        ", red hat",
        ", fog",
        ", red hat, line art, 35mm lens",
    ]
    figures = summarise(
        [Pair("a cat", arguments, 0)] * 8,
        [_rewrite(text, wish) for text in added],
        [_rewrite(", 8k"), *[_rewrite(", fog, dusk")] * 7],
    )
    assert figures == {
        "clauses met": [None, 7 / 8],
        "rewrites with a forbidden phrase": [1 / 8, 1 / 8],
        "required phrases delimited": [None, 6 / 8],
        "required phrases within a longer modifier": [None, 1 / 8],
        "required phrases spelt as they were given": [None, 6 / 7],
        "rewrites with a broken word": [0, 1 / 8],
        "rewrites with a doubled word": [0, 1 / 8],
        "rewrites with a doubled or an open bracket": [0, 1 / 8],
        "rewrites with a contradiction that nobody asked for": [0, 1 / 8],
        "modifiers": [15 / 8, 15 / 8],
        "modifiers beyond the unconstrained and the open clauses": [None, -1],
        "distinct tails": [1 / 8, 3 / 7],  # of (fog) thrice, (8k), ([[fog]), (post-produ), (line art, 35mm lens)
        "rewrites with nothing but what is required": [0, 1 / 8],
        "log-probability a token": [-1, -1],
    }


@pytest.mark.parametrize(
    ("added", "counted"),
    [(", by rembrandt, polaroid", 0), (", by rembrandt, hdr, polaroid", 1), (", polaroid, hdr", 0)],
)
def test_contradictions_that_the_user_asks_for_are_the_users(added, counted):
    arguments = {"artist": "rembrandt", "format": "polaroid"}
    made = _rewrite(added, Constraints(**arguments))
    figures = summarise([Pair("a cat", arguments, 0)], [made], [made])
    assert figures["rewrites with a contradiction that nobody asked for"][1] == counted


def test_an_earlier_runs_pairs_are_rewritten_again(tmp_path, capsys):
    before = tmp_path / "before.json"
    main(count=2, seed=5, output=before)
    first = capsys.readouterr().out
    assert "| clauses met |  | 100.0% |\n" in first
    main(before=before, show=2, output=tmp_path / "after.json")
    table = capsys.readouterr().out
    assert "| clauses met |  | 100.0% |  | 100.0% |\n" in table and table.count("\n- ") == 2
    kept = [json.loads(path.read_text("utf-8")) for path in (before, tmp_path / "after.json")]
    assert kept[0]["pairs"] == kept[1]["pairs"] and kept[0]["rewrites"] == kept[1]["rewrites"]

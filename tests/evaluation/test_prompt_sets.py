import json
import random
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.evaluation.prompt_sets import PROMPT_SETS, load_prompts, read_prompt_set, subset


def test_a_file_gives_its_distinct_prompts_in_order(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a cat\n\na dog\na cat\nan owl: 4k\n", encoding="utf-8")
    assert load_prompts(str(path)) == ["a cat", "a dog", "an owl: 4k"]
    assert load_prompts(f"{path}:2") == load_prompts(str(path), 2) == subset(["a cat", "a dog", "an owl: 4k"], 2)


@given(st.lists(st.text(), unique=True, max_size=40), st.integers(0, 40), st.integers(0, 9), st.randoms())
def test_a_subset_is_nested_ordered_and_independent_of_the_file(prompts, count, seed, rng: random.Random):
    count = min(count, len(prompts))
    chosen = subset(prompts, count, seed)
    assert len(chosen) == count and chosen == [p for p in prompts if p in set(chosen)]
    assert set(subset(prompts, max(0, count - 1), seed)) <= set(chosen)
    shuffled = rng.sample(prompts, len(prompts))
    assert set(subset(shuffled, count, seed)) == set(chosen)


def test_another_seed_is_another_subset():
    prompts = [f"a picture of {i}" for i in range(1000)]
    first, second = (set(subset(prompts, 100, seed)) for seed in (0, 1))
    assert 2 <= len(first & second) <= 25  # 10 by chance
    assert subset(prompts, 5) == [f"a picture of {i}" for i in (99, 238, 243, 366, 977)]


def test_what_is_wrong_is_one_line(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a cat\na dog\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": 3}\n')
    for spec, count, message in [
        ("partyprompts", None, "no prompt set 'partyprompts': choose from partiprompts, drawbench"),
        (f"{path}:3", None, "has 2 distinct prompts, and 3 are asked for"),
        (f"{path}:1", 2, "give one of the two"),
        (f"{path}:0", None, "0 prompts are asked for"),
        (str(tmp_path / "none.txt"), None, "cannot read"),
        (str(tmp_path / "empty.txt"), None, "holds no prompt"),
        (str(tmp_path / "broken.jsonl"), None, "line 2"),
    ]:
        with pytest.raises(ValueError) as caught:
            load_prompts(spec, count)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_sets_that_are_files_are_read_as_they_are_published(tmp_path, monkeypatch):
    """The formats of the published files, with other content."""
    lists = []
    for i, prompts in enumerate([["A cat, anime.", "A dog."], ["A cat, anime.", "An owl."]]):
        lists.append(str(tmp_path / f"{i}.json"))
        (tmp_path / f"{i}.json").write_text(json.dumps(prompts))
    assert read_prompt_set(replace(PROMPT_SETS["hpsv2"], files=tuple(lists)), "hpsv2") == [
        "A cat, anime.",
        "A dog.",
        "An owl.",
    ]
    lines = tmp_path / "metadata.jsonl"
    include = [{"class": "bench", "count": 1}]
    lines.write_text(
        "".join(
            json.dumps({"tag": "single_object", "include": include, "prompt": p}) + "\n"
            for p in ("a photo of a bench", "a photo of two cows")
        )
    )
    found = read_prompt_set(replace(PROMPT_SETS["geneval"], files=(str(lines),)), "geneval")
    assert found == ["a photo of a bench", "a photo of two cows"]
    table = tmp_path / "metadata.parquet"
    users = ["a fox, oil painting, 8k", "a fox, by wlop", ", ,", "castle. trending on artstation"]
    Dataset.from_dict({"image_name": list("abcd"), "prompt": users, "seed": [1, 2, 3, 4]}).to_parquet(table)
    monkeypatch.setitem(PROMPT_SETS, "diffusiondb", replace(PROMPT_SETS["diffusiondb"], files=(str(table),)))
    assert load_prompts("diffusiondb") == ["a fox", "castle"]
    assert load_prompts("diffusiondb:1") == subset(["a fox", "castle"], 1)


@pytest.mark.parametrize(
    ("name", "split", "rows", "wanted"),
    [
        ("partiprompts", "train", {"Prompt": ["bond", " element"], "Category": ["Abstract"] * 2}, ["bond", "element"]),
        ("drawbench", "train", {"Prompts": ["A red car.", "A black apple."], "Category": ["Colors"] * 2}, None),
        (
            "coco",
            "validation",
            {"captions": [["A man.", "He."], ["A pizza."]], "file_name": ["1", "2"]},
            ["A man.", "A pizza."],
        ),
    ],
)
def test_sets_of_the_hub_by_their_columns_and_splits(tmp_path, name, split, rows, wanted):
    (tmp_path / "data").mkdir()
    Dataset.from_dict(rows).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    local = replace(PROMPT_SETS[name], reader=str(tmp_path))
    assert read_prompt_set(local, name) == (wanted or rows[local.column])
    with pytest.raises(ValueError, match="no column 'text'"):
        read_prompt_set(replace(local, column="text"), name)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(PROMPT_SETS, "drawbench", replace(PROMPT_SETS["drawbench"], reader="nobody/no-such-set"))
    with pytest.raises(
        ValueError, match=r"cannot read the prompt set drawbench .*give a file of its prompts"
    ) as caught:
        load_prompts("drawbench")
    assert "\n" not in str(caught.value)

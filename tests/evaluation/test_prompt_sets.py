import json
import random
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.evaluation.prompt_sets import (
    PROMPT_SETS,
    load_entries,
    load_prompts,
    prompts_of,
    question_file,
    read_prompt_set,
    subset,
)
from neuroprompt.questions import read_questions
from tests.test_cli import command  # noqa: F401 (a fixture)

BENCH = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
COWS = {
    "tag": "counting",
    "include": [{"class": "cow", "count": 2, "position": ["above", 0]}],
    "exclude": [{"class": "cow", "count": 3}],
    "prompt": "a photo of two cows",
}
TOYS = {
    "prompt": "two metal toys",
    "atom_count": 3,
    "vqa_list": [["How many toys are in the image?", "two"], ["Are the toys metal?", "Yes"]],
    "skills": ["count", "attribute"],
}


def write_sets(folder):
    """Tiny files in the benchmarks' formats."""
    (folder / "prompts").mkdir()
    files = {
        "prompts/evaluation_metadata.jsonl": "".join(json.dumps(record) + "\n" for record in (BENCH, COWS)),
        "geneval2_data.jsonl": json.dumps(TOYS) + "\n",
        "dpg_bench.csv": "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
        "question_natural_language\n"
        'partiprompts1,"a cat, on ""a"" mat",,1,0,entity,whole,entity - whole (cat),Is there a cat?\n'
        'partiprompts1,"a cat, on ""a"" mat",,2,0,entity,whole,entity - whole (mat),Is there a mat?\n'
        "stanford3,a dog ,,1,0,entity,whole,entity - whole (dog),Is there a dog?\n",
        "test_prompts_en.csv": 'index,prompt_en,sub_dims_en\n7,"a panda, asleep","{""Testpoints"": [""Style""]}"\n',
        "anime.json": json.dumps(["A cat, anime.", "A dog."]),
        "concept-art.json": json.dumps(["An owl."]),
        "paintings.json": json.dumps(["An owl."]),
        "photo.json": json.dumps(["An owl.", "A cat, anime."]),
        **{file: "a red cup\n\na cup.\n" for file in PROMPT_SETS["t2i-compbench"].files},
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


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
    write_sets(tmp_path)
    wanted = {
        "geneval": [("a photo of a bench", "evaluation_metadata", 0, "0"), ("a photo of two cows", ..., 1, "1")],
        "geneval2": [("two metal toys", "geneval2_data", 0, "0")],
        "dpg-bench": [('a cat, on "a" mat', "dpg_bench", 0, "partiprompts1"), ("a dog", "dpg_bench", 2, "stanford3")],
        "t2i-compbench": [("a red cup", "color_val", 0, "0"), ("a cup.", "color_val", 2, "2")],
        "unigenbench": [("a panda, asleep", "test_prompts_en", 0, "7")],
        "hpsv2": [("A cat, anime.", "anime", 0, "0"), ("A dog.", "anime", 1, "1"), ("A cat, anime.", "photo", 1, "1")],
    }
    for name, places in wanted.items():
        entries = load_entries(f"{name}:{tmp_path}")
        for place in places:
            assert any(all(mine in (..., own) for mine, own in zip(place, e, strict=False)) for e in entries), entries
        asked = question_file(f"{name}:{tmp_path}")
        assert bool(asked) == (name in ("geneval", "geneval2", "dpg-bench"))
        assert asked is None or read_questions(asked).keys() == set(prompts_of(entries))
    assert load_entries(f"geneval:{tmp_path / 'prompts'}")[1].record == COWS  # nothing added, nothing lost
    assert load_prompts(f"hpsv2:{tmp_path}") == ["A cat, anime.", "A dog.", "An owl."]
    # A subset keeps places and all that belongs to them.
    (only,) = load_entries(f"dpg-bench:{tmp_path / 'dpg_bench.csv'}:1")
    assert [only] == [e for e in load_entries(f"dpg-bench:{tmp_path}") if e.prompt == only.prompt]

    # What was downloaded lies in a cache under names of the cache's own.
    def kept(_, addresses):
        assert addresses == ["https://raw.githubusercontent.com/facebookresearch/GenEval2/main/geneval2_data.jsonl"]
        return [str((tmp_path / "geneval2_data.jsonl").rename(tmp_path / "0f3a"))]

    monkeypatch.setattr("datasets.DownloadManager.download", kept)
    assert load_prompts("geneval2") == ["two metal toys"]
    table = tmp_path / "metadata.parquet"
    users = ["a fox, oil painting, 8k", "a fox, by wlop", ", ,", "castle. trending on artstation"]
    Dataset.from_dict({"image_name": list("abcd"), "prompt": users, "seed": [1, 2, 3, 4]}).to_parquet(table)
    local = replace(PROMPT_SETS["diffusiondb"], home="", files=(str(table),))
    monkeypatch.setitem(PROMPT_SETS, "diffusiondb", local)
    assert load_prompts("diffusiondb") == ["a fox", "castle"]
    assert load_prompts("diffusiondb:1") == subset(["a fox", "castle"], 1)


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("geneval", "x.jsonl", '{"prompt": "a", "tag": "t", "include": []}\n\n{"prompt": "b"}', "record 3: .*no 'tag'"),
        ("geneval", "x.jsonl", '{"prompt": 3, "tag": "t", "include": []}', "record 1: 'prompt' is no text"),
        ("geneval", "x.jsonl", '{"prompt": "a"', "cannot read .*x.jsonl: Expecting"),
        ("geneval", "x.jsonl", "[1]", r"record 1 is \[1\]"),
        ("geneval", "x.parquet", "", "it is no .csv"),
        ("hpsv2", "x.json", "[" * 9999, "cannot read .*recursion"),
        ("dpg-bench", "x.csv", "item_id,text\na,x\na,y\n", "record 2: 'item_id' is a, as of another prompt"),
        ("dpg-bench", "x.csv", "item_id,text\n../../a,x\n", "record 1: 'item_id' is '../../a', which cannot name"),
        ("unigenbench", "x.csv", "index,prompt_zh,sub_dims_zh\n0,x,{}\n", "record 1: there is no 'prompt_en'"),
        ("t2i-compbench", "", "", "there is no color_val.txt in"),
        ("partiprompts", "", "", "is a folder: give the file with the column 'Prompt'"),
    ],
)
def test_what_is_wrong_with_a_set_is_one_line_that_says_where(tmp_path, name, file, text, said):
    path = tmp_path / file
    if file:
        path.write_text(text)
    with pytest.raises(ValueError, match=said) as caught:
        load_entries(f"{name}:{path}")
    assert "\n" not in str(caught.value)


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
    assert prompts_of(read_prompt_set(local, name)) == (wanted or rows[local.column])
    with pytest.raises(ValueError, match="no column 'text'"):
        read_prompt_set(replace(local, column="text"), name)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(PROMPT_SETS, "drawbench", replace(PROMPT_SETS["drawbench"], reader="nobody/no-such-set"))
    with pytest.raises(
        ValueError, match=r"cannot read the prompt set drawbench .*give a file of its prompts"
    ) as caught:
        load_prompts("drawbench")
    assert "\n" not in str(caught.value)


def test_a_sets_own_questions_are_those_of_atoms(command, tmp_path, monkeypatch):  # noqa: F811
    write_sets(tmp_path)
    known, mine = tmp_path / "geneval2_data.jsonl", tmp_path / "mine.jsonl"
    mine.write_text(known.read_text())
    asked = []

    def load(spec, model, device, atoms):
        asked.append(atoms and str(atoms))
        raise ValueError("enough")

    monkeypatch.setattr("neuroprompt.rewards.load_rewards", load)
    for rewards, *more in (["pickscore,atoms:0"], ["pickscore"], ["atoms", "--atoms", mine]):
        arguments = ["--input", f"geneval2:{known}", "--methods", "plain", "-o", tmp_path / "r", "--rewards", rewards]
        assert "enough" in command("evaluate", *arguments, *more)[2]
    assert asked == [str(known), None, str(mine)]

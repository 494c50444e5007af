"""Pictures as the benchmarks' scorers find them: what each scorer does to find them is done here, too."""

import csv
import json
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from neuroprompt.evaluation.exports import LAYOUTS, Export
from neuroprompt.evaluation.prompt_sets import PROMPT_SETS, Entry, load_entries, prompts_of
from neuroprompt.image_files import PictureInfo, read_metadata
from tests.evaluation.test_prompt_sets import BENCH, COWS, TOYS, write_sets
from tests.test_cli import command  # noqa: F401 (a fixture)


def exported(name, folder, count=None, **shape):
    """A method's folder with the export of a tiny set; picture i of a prompt is grey, and i times ten bright."""
    write_sets(folder)
    entries = load_entries(f"{name}:{folder}")
    count = LAYOUTS[name].pictures if count is None else count
    export, out = Export(name, entries, count), folder / "out"
    for prompt in prompts_of(entries):
        for i in range(count):
            image = torch.full((3, 8, shape.get("width", 8)), i * 10 / 255)
            export.write(out, PictureInfo(prompt, f"{prompt}, 4k", i, "embedded"), i, image)
    export.finish([out])
    return out


def shade(path):
    return int(np.asarray(Image.open(path))[0, 0, 0])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_geneval_has_a_folder_a_prompt_with_its_line_of_metadata(tmp_path):
    out = exported("geneval", tmp_path)
    for subfolder, record in (("00000", BENCH), ("00001", COWS)):
        assert json.loads((out / subfolder / "metadata.jsonl").read_text()) == record
        names = os.listdir(out / subfolder / "samples")
        assert len(names) == 4 and all(re.match(r"\d+\.png", name) for name in names)
    assert shade(out / "00001/samples/00003.png") == 30
    said = read_metadata(out / "00001/samples/00003.png")["neuroprompt"]
    assert (said["original"], said["text"], said["seed"]) == (COWS["prompt"], f"{COWS['prompt']}, 4k", 3)


def test_geneval2_has_a_path_for_each_prompt_of_its_data(tmp_path):
    out = exported("geneval2", tmp_path)
    (record,) = map(json.loads, (out / "geneval2_data.jsonl").read_text().splitlines())
    paths = json.loads((out / "image_paths.json").read_text())
    assert record == TOYS and os.path.isabs(paths[record["prompt"]]) and shade(paths[record["prompt"]]) == 0


@pytest.mark.parametrize(("count", "size"), [(4, (16, 16)), (3, (16, 16)), (1, (8, 8))])
def test_dpg_bench_has_a_sheet_a_prompt_under_its_name(tmp_path, count, size):
    out = exported("dpg-bench", tmp_path, count)
    assert files(out) == ["partiprompts1.png", "stanford3.png"]  # its scorer opens all that is there
    sheet = Image.open(out / "stanford3.png")
    assert sheet.size == size
    corners = [(0, 0), (8, 0), (0, 8), (8, 8)][:count]  # as its scorer cuts them out
    assert [np.asarray(sheet.crop((x, y, x + 8, y + 8))).mean() for x, y in corners] == [i * 10 for i in range(count)]
    assert read_metadata(out / "stanford3.png")["neuroprompt"]["seed"] == list(range(count))


def test_pictures_that_are_not_square_make_no_sheet(tmp_path):
    with pytest.raises(ValueError, match="cuts a sheet into squares, and the pictures are 12 x 8"):
        exported("dpg-bench", tmp_path, width=12)


def test_t2i_compbench_has_a_folder_a_category_with_prompts_in_names(tmp_path):
    out = exported("t2i-compbench", tmp_path)
    assert sorted(os.listdir(out)) == sorted(file.removesuffix(".txt") for file in PROMPT_SETS["t2i-compbench"].files)
    names = os.listdir(out / "complex_val/samples")
    names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
    assert [name.split("_")[0] for name in names] == ["a red cup"] * 10 + ["a cup."] * 10
    assert [int(name.split("_")[-1].split(".")[0]) for name in names] == [*range(10), *range(20, 30)]  # of a blank line


def test_unigenbench_has_pictures_by_index_and_the_table_of_what_was_drawn(tmp_path):
    out = exported("unigenbench", tmp_path)
    with (out / "test_prompts.csv").open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert json.loads(row["sub_dims_en"]) == {"Testpoints": ["Style"]}
    assert [shade(out / f"{int(row['index'])}_{j}.png") for j in range(4)] == [0, 10, 20, 30]


def test_hpsv2_has_a_folder_a_style_and_a_prompt_of_several_is_in_each(tmp_path):
    out = exported("hpsv2", tmp_path, 2)  # of more than its one the first
    for style in os.listdir(out):
        prompts = json.loads((tmp_path / f"{style}.json").read_text())
        assert sorted(os.listdir(out / style)) == [f"{i:05d}.jpg" for i in range(len(prompts))]
        assert all(shade(out / style / f"{i:05d}.jpg") == 0 for i in range(len(prompts)))
    assert len(os.listdir(out)) == 4


@pytest.mark.parametrize(
    ("name", "prompts", "said"),
    [
        ("partiprompts", ["a"], "partiprompts has no scorer that reads pictures from a folder"),
        (None, ["a"], "a file of prompts has no scorer"),
        ("t2i-compbench", ["a_b"], "names no file that t2i-compbench's scorers read: it has '_'"),
        ("t2i-compbench", ["../../b"], "it has '/'"),
        ("t2i-compbench", ["b" * 200], "it has 200 bytes, and 160 fit"),
        ("dpg-bench", ["A", "a"], "'a' and 'A' would both be a.png"),
    ],
)
def test_prompts_that_the_scorer_would_not_find_are_told_before_the_work(name, prompts, said):
    with pytest.raises(ValueError, match=said):
        Export(name, [Entry(prompt, "g", i, prompt) for i, prompt in enumerate(prompts)], 1)


def test_methods_have_folders_of_their_own(tmp_path):
    folders = Export.folders(["plain", "policy:../../runs/ppo+constraints", "best-of-8"], tmp_path)
    assert [folder.name for folder in folders.values()] == ["plain", "policy-..-..-runs-ppo+constraints", "best-of-8"]
    assert {folder.parent for folder in folders.values()} == {tmp_path}
    with pytest.raises(ValueError, match="'file:a/b' and 'file:A-b' would both be in file-A-b"):
        Export.folders(["file:a/b", "file:A-b"], tmp_path)


def test_an_evaluation_exports_what_it_draws_and_takes_it_up(command, tmp_path, monkeypatch):  # noqa: F811
    write_sets(tmp_path)
    arguments = ["evaluate", "--input", f"geneval:{tmp_path}", "--methods", "plain,suffix", "--images-per-prompt", 2,
                 "--steps", 1, "-o", tmp_path / "results"]  # fmt: skip
    code, _, err = command(*arguments, "--export")
    assert code == 0 and "4 pictures of a prompt, and this evaluation 2: its scores compare with no others" in err, err
    out = tmp_path / "results" / "export"
    assert sorted(os.listdir(out)) == ["plain", "suffix"]
    assert files(out / "suffix") == [
        f"{i:05d}/{file}" for i in range(2) for file in ("metadata.jsonl", "samples/00000.png", "samples/00001.png")
    ]
    # They are those that were scored: drawn with the record's text and the plain prompt's seeds.
    records = [json.loads(line) for line in (tmp_path / "results" / "records.jsonl").read_text().splitlines()]
    made = {r["method"]: r for r in records if r["original"] == COWS["prompt"]}
    said = [read_metadata(out / method / "00001/samples/00001.png")["neuroprompt"] for method in made]
    assert [of["text"] for of in said] == [record["text"] for record in made.values()]
    assert said[0]["seed"] == said[1]["seed"]
    # A kill in the middle of the chunk: no records, some pictures. The same command makes the same of it.
    before = {file: (out / file).read_bytes() for file in files(out)}
    (tmp_path / "results" / "records.jsonl").write_text("")
    for file in list(before)[:4]:
        (out / file).unlink()
    assert command(*arguments, "--export")[0] == 0
    assert {file: (out / file).read_bytes() for file in files(out)} == before
    code, _, err = command(*arguments)
    assert code == 2 and "export was geneval, and now it is not there" in err

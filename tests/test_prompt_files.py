"""Prompts in and results out: what is broken costs itself alone, and a kill costs what was not written."""

import csv
import io
import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.prompt_files import Line, ResultFile, one_line, read_chunks, read_lines

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def records(*texts):
    return [{"original": t, "text": t + ", 8k", "score": -1.0, "seed": None, "warning": None} for t in texts]


@pytest.fixture
def pipe(monkeypatch):
    """Standard input is a pipe: what is written to this descriptor."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(read, encoding="utf-8"))
    yield write
    sys.stdin.close()


def test_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffa cat\r\n\n  ein Hund 🐕 \n", encoding="utf-8")
    assert read_lines(str(tmp_path / "a.txt")) == [Line(1, "a cat"), Line(3, "ein Hund 🐕")]


def test_csv(tmp_path):
    (tmp_path / "a.csv").write_text('id,prompt\n1,"a cat, 8k"\n2,\n\n3,"two\nlines"\n4\n')
    lines = read_lines(str(tmp_path / "a.csv"))
    assert [line.prompt for line in lines] == ["a cat, 8k", None, "two\nlines", None]
    assert lines[1].error and lines[3].error and lines[3].number == 7
    (tmp_path / "b.csv").write_text("text\nx\n")
    with pytest.raises(ValueError, match="no column 'prompt'; it has text"):
        read_chunks(str(tmp_path / "b.csv"), 1)


def test_jsonl_reports_broken_lines_and_goes_on(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": \n\n"a dog"\n{"text": "x"}\n{"prompt": 3}\n')
    lines = read_lines(str(tmp_path / "a.jsonl"))
    assert [(line.number, line.prompt) for line in lines] == [
        (1, "a cat"),
        (2, None),
        (4, "a dog"),
        (5, None),
        (6, None),
    ]
    assert "broken JSON" in lines[1].error


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"prompt": "half \\ud83d"}', "half a character"),
        ('{"id": ' + "9" * 10_000 + ', "prompt": "a cat"}', "broken JSON (exceeds the limit"),
        ("[" * 100_000, "broken JSON (maximum recursion depth"),
        ("null", 'no "prompt" with a string'),
    ],
    ids=["surrogate", "digits", "brackets", "null"],
)
def test_a_bad_line_of_json_is_one_error(tmp_path, line, error):
    (tmp_path / "a.jsonl").write_text(f'"first"\n{line}\n"last"\n')
    first, bad, last = read_lines(str(tmp_path / "a.jsonl"))
    assert (first.prompt, last) == ("first", Line(3, "last"))
    assert bad.prompt is None and bad.error.startswith(error)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_what_is_no_utf8_is_an_error_of_its_line(tmp_path, name):
    head = b"prompt\n" * name.endswith("csv")
    (tmp_path / name).write_bytes(head + b'"first"\n"caf\xe9"\n"last"\n')
    first, bad, last = read_lines(str(tmp_path / name))
    assert "first" in first.prompt and "last" in last.prompt
    assert bad.error == "no UTF-8 text (byte 0xe9)" and bad.number == 2 + bool(head)


def test_a_csv_field_may_be_long_and_the_limit_is_the_librarys_again(tmp_path):
    """Python's own stops a file at 131,072 characters, in a header, too."""
    long, limit = "x" * 200_000, csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f'prompt,note\na cat,{long}\n"{long}",\na dog,\n')
    assert [line.prompt for line in read_lines(str(tmp_path / "a.csv"))] == ["a cat", long, "a dog"]
    (tmp_path / "b.csv").write_text(f"{long},prompt\n1,a cat\n")
    assert read_lines(str(tmp_path / "b.csv")) == [Line(2, "a cat")]
    assert csv.field_size_limit() == limit


def test_bad_files(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    for name, words in [("none.txt", "cannot read"), ("folder.txt", "Is a directory"), ("a.docx", "are read from")]:
        with pytest.raises(ValueError, match=words):
            read_chunks(str(tmp_path / name), 1)


def test_a_pipe_gives_what_has_arrived(pipe):
    chunks = read_chunks("-", 2)
    os.write(pipe, b"\xef\xbb\xbfa cat\n")
    assert next(chunks) == [Line(1, "a cat")]  # while the pipe is open
    os.write(pipe, b'\n{"prompt": "a dog"}\nan owl\nhalf ')
    assert next(chunks) == [Line(3, "a dog"), Line(4, "an owl")]  # which need not wait for the half
    os.write(pipe, b"a line\nlast")
    assert next(chunks) == [Line(5, "half a line")]
    os.close(pipe)
    assert list(chunks) == [[Line(6, "last")]]


def test_a_file_is_read_no_further_than_asked(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a cat\n" * 100_000)
    chunks = read_chunks(str(path), 3)
    assert [line.number for line in next(chunks)] == [1, 2, 3]
    with open(path, "a") as file:
        file.write("a dog\n")
    assert list(chunks)[-1] == [Line(100_000, "a cat"), Line(100_001, "a dog")]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt"])
def test_results_appear_whole_and_are_taken_up(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    path.write_text("what was there")
    with pytest.raises(KeyboardInterrupt), ResultFile(str(path), "same") as killed:
        killed.write(records("a", "b"))
        with open(killed.part, "ab") as part:
            part.write(b'{"original": "half a li')  # what a kill leaves
        raise KeyboardInterrupt
    assert path.read_text() == "what was there"
    part = killed.part.read_bytes()

    with pytest.raises(KeyboardInterrupt), ResultFile(str(path), "other settings") as other:
        assert not other.take_up("a")
        raise KeyboardInterrupt
    assert killed.part.read_bytes() == part and not other.part.exists()

    with pytest.raises(MemoryError), ResultFile(str(path), "same"):
        raise MemoryError  # before anything is taken up
    assert killed.part.read_bytes() == part

    with ResultFile(str(path), "same") as again:
        assert again.take_up("a") and again.take_up("b") and not again.take_up("c")
        again.write(records("c"))
    assert again.taken_up == 2
    assert os.listdir(tmp_path) == [path.name]
    lines = path.read_text().split("\n")[:-1]
    assert len(lines) == (4 if suffix == "csv" else 3)
    if suffix == "jsonl":
        assert [json.loads(line)["original"] for line in lines] == ["a", "b", "c"]
    if suffix == "txt":
        assert lines == ["a, 8k", "b, 8k", "c, 8k"]


@given(st.integers(0, 10**6))
def test_wherever_a_write_was_torn_no_record_is_lost_or_doubled(tmp_path_factory, seed):
    """Three records a prompt; a kill at any byte; the input changed at its end meanwhile, or not."""
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("torn")
    path, prompts = folder / "out.jsonl", [f"prompt {i}" for i in range(6)]

    def write(prompts):
        with ResultFile(str(path), "same", each=3) as results:
            for prompt in prompts:
                if not results.take_up(prompt):
                    results.write(r | {"variant": i} for i, r in enumerate(records(prompt) * 3))

    write(prompts)
    whole = path.read_bytes()
    changed = [*prompts[: rng.randrange(7)], "another"] if rng.random() < 0.5 else prompts
    results = ResultFile(str(path), "same", each=3)
    results.part.write_bytes(whole[: rng.randrange(len(whole))] + rng.choice([b"", b"\0\0", b"{\n{\n{\n"]))
    write(changed)
    found = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert [(r["original"], r["variant"]) for r in found] == [(p, i) for p in changed for i in range(3)]
    assert os.listdir(folder) == ["out.jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt"])
def test_every_end_of_a_line_in_a_prompt_is_kept_or_is_a_space(tmp_path, suffix):
    path, prompts = tmp_path / f"out.{suffix}", [f"a{end}b" for end in LINE_ENDS] + ["last"]
    with pytest.raises(KeyboardInterrupt), ResultFile(str(path), "") as killed:
        killed.write(records(*prompts[:4]))
        raise KeyboardInterrupt
    with ResultFile(str(path), "") as results:
        results.write(records(*[prompt for prompt in prompts if not results.take_up(prompt)]))
    assert results.taken_up == 4
    if suffix == "txt":
        assert path.read_text("utf-8").splitlines() == [one_line(p) + ", 8k" for p in prompts]
    if suffix == "csv":
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        assert [row["original"] for row in rows] == prompts
    if suffix == "jsonl":
        assert [json.loads(line)["original"] for line in path.read_text("utf-8").splitlines()] == prompts


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_results_can_be_input_again(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    with ResultFile(str(path), "") as results:
        results.write(records("a cat", "a dog"))
    assert [line.prompt for line in read_lines(str(path))] == ["a cat", "a dog"]
    assert [line.prompt for line in read_lines(str(path), ("prompt", "text"))] == ["a cat, 8k", "a dog, 8k"]


def test_without_results_what_was_there_stays(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("what was there")
    with ResultFile(str(path), ""):
        pass
    assert path.read_text() == "what was there" and os.listdir(tmp_path) == ["out.jsonl"]


def test_a_full_disk_leaves_whole_lines(tmp_path):
    class FullDisk(io.FileIO):
        room = 10

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            written = super().write(data[: self.room])
            self.room -= written
            return written

    path = tmp_path / "out.jsonl"
    with pytest.raises(OSError, match="No space"), ResultFile(str(path), "x") as results:
        results.write(records("a"))
        results._file = FullDisk(results.part, "a")
        results.write(records("b"))
    with ResultFile(str(path), "x") as again:
        assert again.take_up("a") and not again.take_up("b")


def test_bad_outputs(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for name, words in [("none/out.jsonl", "no folder"), ("out.docx", "written to"), ("folder.jsonl", "is a folder")]:
        with pytest.raises(ValueError, match=words), ResultFile(str(tmp_path / name), ""):
            pass


def test_a_second_writer_is_refused_and_takes_nothing_away(tmp_path):
    path = tmp_path / "out.jsonl"
    other = """
import sys
from neuroprompt.files import BusyError
from neuroprompt.prompt_files import ResultFile
try:
    with ResultFile(sys.argv[1], "same") as results:
        results.take_up("b")
except BusyError as error:
    print(error)
"""
    with ResultFile(str(path), "same") as results:
        results.write(records("a"))
        done = subprocess.run([sys.executable, "-c", other, path], capture_output=True, text=True)
        assert f"is being written by process {os.getpid()} on" in done.stdout, done.stderr
        results.write(records("b"))
    assert len(path.read_text().split("\n")) == 3

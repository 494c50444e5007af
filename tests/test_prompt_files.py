import json

import pytest

from neuroprompt.prompt_files import Line, ResultFile, read_lines


def records(*texts):
    return [{"original": t, "text": t + ", 8k", "score": -1.0, "seed": None, "warning": None} for t in texts]


def test_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffa cat\r\n\n  ein Hund 🐕 \n", encoding="utf-8")
    assert read_lines(str(tmp_path / "a.txt")) == [Line(1, "a cat"), Line(3, "ein Hund 🐕")]


def test_csv(tmp_path):
    (tmp_path / "a.csv").write_text('id,prompt\n1,"a cat, 8k"\n2,\n3,"two\nlines"\n')
    lines = read_lines(str(tmp_path / "a.csv"))
    assert [line.prompt for line in lines] == ["a cat, 8k", None, "two\nlines"]
    assert lines[1].error
    (tmp_path / "b.csv").write_text("text\nx\n")
    with pytest.raises(ValueError, match="no column 'prompt'; it has text"):
        read_lines(str(tmp_path / "b.csv"))


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


def test_bad_files(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"a cat\ncaf\xe9\n")
    for name, words in [("latin.txt", "line 2"), ("none.txt", "cannot read"), ("a.docx", "are read from")]:
        with pytest.raises(ValueError, match=words):
            read_lines(str(tmp_path / name))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt"])
def test_results_appear_whole_and_are_taken_up(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    killed = ResultFile(str(path), "same")
    killed.write(records("a", "b"))
    killed._file.write('{"original": "half a li')  # what a kill leaves
    killed._file.close()
    assert not path.exists()

    other = ResultFile(str(path), "other settings")
    assert other.done == 0
    other._file.close()
    other.part.unlink()

    again = ResultFile(str(path), "same")
    assert again.done == 2
    again.write(records("c"))
    again.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    lines = path.read_text().splitlines()
    assert len(lines) == (4 if suffix == "csv" else 3)
    if suffix == "jsonl":
        assert [json.loads(line)["original"] for line in lines] == ["a", "b", "c"]
    if suffix == "txt":
        assert lines == ["a, 8k", "b, 8k", "c, 8k"]


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    results = ResultFile(str(tmp_path / "out.jsonl"), "x")
    results.write(records("a"))

    write = results._file.write

    class FullDisk:
        tell = results._file.tell

        def write(self, text):
            write(text[:10])
            results_file.flush()
            raise OSError(28, "No space left on device")

    results_file, results._file = results._file, FullDisk()
    with pytest.raises(OSError, match="No space"):
        results.write(records("b"))
    results_file.close()
    assert ResultFile(str(tmp_path / "out.jsonl"), "x").done == 1


def test_a_real_full_device():
    results = ResultFile.__new__(ResultFile)
    results.part, results.format = None, ".txt"
    with open("/dev/full", "w") as results._file, pytest.raises(OSError, match="No space"):
        results.write(records("a" * 10_000))


def test_bad_outputs(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        ResultFile(str(tmp_path / "none" / "out.jsonl"), "")
    with pytest.raises(ValueError, match="are written to"):
        ResultFile(str(tmp_path / "out.docx"), "")

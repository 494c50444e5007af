"""What the commands read and write: one writer, never what is read, and results as soon as they are there."""

import json
import os
import pty
import runpy
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.files import sole_writer
from neuroprompt.images import ImageGenerator
from tests import forks
from tests.test_cli import command  # noqa: F401 (a fixture)


@contextmanager
def another_writer(path):
    """Another thread is, to the lock, another process."""
    begun, end = threading.Event(), threading.Event()

    def hold():
        with sole_writer(path):
            begun.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    yield
    end.set()
    thread.join()


@pytest.fixture
def without_models(monkeypatch, tmp_path):
    def load(*_, **__):
        raise AssertionError("a model is loaded before the output is looked at")

    monkeypatch.setattr(PromptEnhancer, "from_pretrained", load)
    monkeypatch.setattr(ImageGenerator, "from_pretrained", load)
    monkeypatch.setattr("neuroprompt.rewards.load_rewards", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVALUATE = ["evaluate", "--input", "in.txt", "--methods", "plain", "-o", "results"]
STUDY = ["study", "--axes", "style", "--input", "in.txt", "-o", "results"]


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["enhance", "a cat", "-o", "out.jsonl"], "out.jsonl"),
        (EVALUATE, "results/records.jsonl"),
        (STUDY, "results/records.jsonl"),
        ([*STUDY, "--shard", "2/3"], "results/records-2-of-3.jsonl"),
        (["optimize", "a cat", "-o", "finds.jsonl"], "finds.jsonl"),
        (["optimize", "a cat", "-o", "best.png"], "best.png"),
        (["optimize", "a cat", "--state", "state.json"], "state.json"),
        (["optimize", "a cat", "--to-pairs", "pairs"], "pairs"),
        (["suffix", "-i", "in.txt", "-o", "suffix.txt"], "suffix.txt"),
    ],
)
def test_a_second_writer_is_told_before_models_are_loaded(command, without_models, arguments, output):  # noqa: F811
    (without_models / "in.txt").write_text("a cat\n")
    (without_models / "results").mkdir()
    with another_writer(output):
        before = sorted(os.listdir())
        code, out, err = command(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{output} is being written by process {os.getpid()} on" in err and "since 2" in err
        assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enhance", "-i", "in.jsonl", "-o", "in.jsonl"], "in.jsonl would be read and written as one file"),
        (["enhance", "-i", "in.jsonl", "-o", "link.jsonl"], "in.jsonl and link.jsonl would be read and written"),
        (["optimize", "-i", "in.jsonl", "-o", "./in.jsonl"], "would be read and written"),
        (["optimize", "-i", "in.jsonl", "--state", "in.jsonl"], "would be read and written"),
        (["optimize", "a cat", "--state", "new.jsonl", "-o", "new.jsonl"], "would be read and written"),
        (["optimize", "-i", "in.jsonl", "--to-pairs", "."], "is no prepared data, which could be replaced"),
        ([*EVALUATE[:-1], ".", "--methods", "plain,file:results.csv"], "would be read and written"),
        ([*EVALUATE[:-1], ".", "--methods", "plain,swapped:suffix:results.csv"], "would be read and written"),
        (["suffix", "-i", "in.txt", "-o", "in.txt"], "in.txt would be read and written"),
        (["suffix", "--frequent-in", "in.txt", "-o", "in.txt"], "in.txt would be read and written"),
        (["suffix", "-o", "s.txt"], "one of the two"),
        (["suffix", "-i", "in.txt", "--frequent-in", "in.jsonl", "-o", "s.txt"], "one of the two"),
        (["suffix", "-i", "in.txt", "-o", "none/s.txt"], "there is no folder none"),
        (["enhance", "a cat", "-o", "folder.jsonl"], "folder.jsonl is a folder"),
        (["enhance", "a cat", "-o", "none/out.jsonl"], "there is no folder none"),
        (["optimize", "a cat", "--state", "none/s.json"], "there is no folder none"),
        ([*EVALUATE[:-1], "in.txt"], "written to a folder"),
        (["enhance", "-i", "none.jsonl", "-o", "out.jsonl"], "cannot read none.jsonl"),
        (["grid", "a cat", "-o", "g.png", "--methods", "plain,magic"], "unknown method 'magic'"),
        (["grid", "a cat", "-o", "g.png", "--rewards", "beauty"], "there is no reward 'beauty'"),
        ([*EVALUATE, "--methods", "plain,best-of-0"], "at least 1 sample"),
        ([*EVALUATE, "--rewards", "clip:heavy"], "must be a number"),
        ([*STUDY, "--rewards", "beauty"], "there is no reward 'beauty'"),
        (["optimize", "a cat", "--rewards", "beauty"], "there is no reward 'beauty'"),
    ],
)
def test_what_would_destroy_or_cannot_be_written_is_refused(command, without_models, arguments, message):  # noqa: F811
    for name in ("in.jsonl", "in.txt", "results.csv"):
        (without_models / name).write_text('"a cat"\n')
    (without_models / "link.jsonl").symlink_to("in.jsonl")
    (without_models / "folder.jsonl").mkdir()
    before = sorted(os.listdir())
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err
    assert sorted(os.listdir()) == before and (without_models / "in.jsonl").read_text() == '"a cat"\n'


def test_results_are_input_again_and_what_is_broken_replaces_nothing(command, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('"a cat\\u2028at night"\n{"prompt": "\\ud800"}\n"a dog"\n')
    code, _, err = command("enhance", "-i", "in.jsonl", "-o", "out.jsonl")
    assert code == 1 and "line 2: half a character" in err
    for output in ("again.jsonl", "again.csv", "again.txt"):
        assert command("enhance", "-i", "out.jsonl", "-o", output)[0] == 0
    made = (tmp_path / "out.jsonl").read_bytes()
    assert (tmp_path / "again.jsonl").read_bytes() == made
    rows = [json.loads(line) for line in made.decode().splitlines()]
    assert [row["original"] for row in rows] == ["a cat\u2028at night", "a dog"]
    lines = (tmp_path / "again.txt").read_text("utf-8").splitlines()
    assert lines == [row["text"].replace("\u2028", " ") for row in rows]
    (tmp_path / "broken.jsonl").write_text("{\n")
    assert command("enhance", "-i", "broken.jsonl", "-o", "out.jsonl")[0] == 1
    (tmp_path / "empty.jsonl").write_text("\n")
    code, _, err = command("enhance", "-i", "empty.jsonl", "-o", "out.jsonl")
    assert code == 2 and "empty.jsonl holds no prompts" in err
    assert (tmp_path / "out.jsonl").read_bytes() == made
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_pipe_streams(enhancer, tmp_path):
    """The first result is there while the second prompt is not; and a reader that has enough ends it quietly."""
    given, made, errors = (tmp_path / name for name in ("given", "made", "errors"))
    os.mkfifo(given)
    os.mkfifo(made)
    process = forks.start(["-m", "neuroprompt.cli", "enhance", "-i", "-"], tmp_path, made, errors, given=given)
    with open(given, "w", buffering=1) as prompts:
        with open(made) as results:
            for prompt in ("a cat", "a dog"):
                prompts.write(f"{prompt}\n")
                assert results.readline() == enhancer(prompt).text + "\n"  # a test that hangs has failed
        prompts.write("an owl\n")
    process.join(60)
    assert process.exitcode == 1 and errors.read_bytes() == b""  # as Click ends it


def test_progress_is_for_the_terminal_and_results_for_the_file(enhancer, tmp_path):
    """`neuroprompt enhance -i in.txt > out.txt` on a terminal: Rich would show the results there, and lose them."""
    (tmp_path / "in.txt").write_text("a cat\na \x1b]0;owned\x07dog\n")
    master, terminal = pty.openpty()
    # Rich finds out whether it is on a terminal as it is imported, which in a fork has been.
    main = "from neuroprompt import cli, terminal; terminal.errors.is_interactive = True; cli.main()"
    enhance = ["-c", main, "enhance", "-i", "in.txt", "--batch-size", "1", "--window", "12"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = forks.start(enhance, tmp_path, tmp_path / "out.txt", Path(os.ttyname(terminal)), environment)
    shown = os.read(master, 65536)  # it has opened the terminal
    os.close(terminal)
    with suppress(OSError):  # Linux's way to say that the other end is closed
        while data := os.read(master, 65536):
            shown += data
    os.close(master)
    process.join()
    assert process.exitcode == 0
    texts = [enhancer(prompt, window=12).text for prompt in ("a cat", "a \x1b]0;owned\x07dog")]
    assert (tmp_path / "out.txt").read_text() == "".join(f"{text}\n" for text in texts)
    assert b"loading" in shown and b"rewriting" in shown and b" of 2 prompts" in shown and b"\x1b]0;" not in shown


def test_prepared_data_replace_nothing_else(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prompts.txt").write_text("a castle, oil painting, highly detailed\n")
    script = Path(__file__).parents[1] / "scripts" / "prepare_data.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--source", "home/prompts.txt", "--output", "home"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code and "home is there, and is no prepared data" in capsys.readouterr().err
    assert os.listdir("home") == ["prompts.txt"]

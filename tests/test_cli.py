import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neuroprompt
from neuroprompt.cli import main
from neuroprompt.image_files import PictureInfo, read_metadata, save_image
from neuroprompt.programs import run
from neuroprompt.rewards import load_rewards
from neuroprompt.terminal import say, show


def run_command(monkeypatch, capsys, *arguments, stdin=None):
    """Exit code, standard output and standard error of one command."""
    monkeypatch.setattr(sys, "argv", ["neuroprompt", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    if stdin is not None:
        read, write = os.pipe()
        os.write(write, stdin.encode())
        os.close(write)
        monkeypatch.setattr(sys, "stdin", os.fdopen(read, encoding="utf-8"))
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.fixture
def command(monkeypatch, capsys):
    return lambda *arguments, stdin=None: run_command(monkeypatch, capsys, *arguments, stdin=stdin)


def test_one_line_out(command):
    code, out, _ = command("enhance", "boy on a horse")
    assert code == 0
    assert out.startswith("boy on a horse, ")
    assert out.count("\n") == 1


def test_variants(command):
    _, out, _ = command("enhance", "boy on a horse", "-n", 4, "--seed", 7)
    assert len(set(out.splitlines())) == 4
    assert command("enhance", "boy on a horse", "-n", 4, "--seed", 7)[1] == out


def test_pipe(command):
    code, out, _ = command("enhance", "--input", "-", stdin='a cat\n\n{"prompt": "a dog"}\n')
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["a cat", "a dog"]


def test_file_to_file_with_a_broken_line(command, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": \n{"prompt": ""}\n{"prompt": "a dog"}\n')
    code, out, err = command("enhance", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert code == 1
    assert out == ""
    assert "line 2" in err and "line 3" in err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["original"] for r in rows] == ["a cat", "a dog"]
    assert all(r["text"].startswith(r["original"]) and r["modifiers"] for r in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_prompt_that_is_not_drawn_whole_is_said(command, tmp_path):
    code, _, err = command("image", "word " * 90, "--steps", 1, "-o", tmp_path / "a.png")
    assert code == 0 and "has 92 CLIP tokens, of which embedded reads the first 77" in err


def test_a_prompt_beyond_the_window_warns(command):
    code, out, err = command("enhance", "word " * 90)
    assert code == 0
    assert out.strip() == ("word " * 90).strip()
    assert "warning" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["enhance", ""], "empty"),
        (["enhance", "   "], "empty"),
        (["enhance", "a\0b"], "NUL"),
        (["enhance"], "give prompts"),
        (["enhance", "x", "--input", "a.txt"], "one of the two"),
        (["enhance", "--input", "missing.txt"], "cannot read missing.txt"),
        (["enhance", "--input", "missing.pdf"], "are read from"),
        (["enhance", "x", "--model", "./missing"], "there is no folder"),
        (["enhance", "x", "--output", "missing/out.jsonl"], "there is no folder missing"),
        (["enhance", "x", "--output", "out.docx"], "this is written to"),
        (["enhance", "x", "--temperature", "0", "-n", "2"], "temperature"),
        (["enhance", "x", "--temperature", "inf"], "--temperature"),
        (["enhance", "x", "--temperature", "1e-30"], "--temperature"),
        (["enhance", "x", "--diversity", "inf"], "--diversity"),
        (["enhance", "x", "--min-modifiers", "9" * 20], "--min-modifiers"),
        (["enhance", "x", "-n", "9" * 20], "--variants"),
        (["enhance", "x", "--top-p", "nan"], "--top-p"),
        (["enhance", "a blurry photo", "--forbid", "blurry"], "the prompt itself says 'blurry'"),
        (["enhance", "x", "--require", "fog", "--forbid", "fog"], "is also forbidden"),
        (["enhance", "x", "--require", "dark fog", "--forbid", "fog"], "contains the forbidden"),
        (["enhance", "x", "--require", "word " * 90], "CLIP tokens, and the window has 77"),
        (["enhance", "x", "--auto", "colour"], "no category"),
        (["modifiers", "colour"], "artist, style, format, perspective, booster, vibe"),
        (["enhance", "x", "--device", "cuda"], "no CUDA device"),
    ],
)
def test_bad_input_is_one_line(command, arguments, words):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_what_others_wrote_cannot_steer_the_terminal(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hostile = "\x1b]0;owned\x07\x9b2J\u202egnp"
    spelled = r"\x9b2J\u202egnp"
    Image.new("RGB", (8, 8), "red").save(hostile, "PNG")
    for arguments, code in (
        (["enhance", "x", f"--{hostile}"], 2),
        (["enhance", "--input", f"{hostile}.txt"], 2),
        (["enhance", hostile + "word " * 90], 0),
        (["score", "-p", "x", f"{hostile}.png"], 2),
        (["score", "-p", "x", hostile, "--reward-model", "embedded"], 0),
    ):
        done, out, err = command(*arguments)
        seen = err if arguments[0] == "enhance" or code else out
        assert done == code and spelled in seen and hostile not in seen, seen
    code, out, _ = command(
        "score", "-p", hostile, hostile, "--json", "--reward-model", "embedded"
    )  # data have every character
    assert code == 0 and json.loads(out)["picture"] == json.loads(out)["original"] == hostile


def test_a_prompt_of_lines_is_one_line_on_a_terminal(monkeypatch, capsys):
    show("a cat\nerror: \x1b[31mred")
    assert capsys.readouterr().out == "a cat\nerror: \x1b[31mred\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show("a cat\nerror: \x1b[31mred")
    say("a cat\nerror: [red]x[/]", "warning:", "yellow")
    captured = capsys.readouterr()
    assert captured.out == r"a cat\nerror: \x1b[31mred" + "\n"
    assert captured.err == r"warning: a cat\nerror: [red]x[/]" + "\n"


def test_a_usage_error_is_one_line_and_no_arguments_are_help(command):
    for arguments, words in ((["enhance", "x", "--frob"], "No such option: --frob"), (["frob"], "No such command"),
                             (["enhance", "x", "-o"], "requires an argument"), (["image", "x"], "--output"),
                             (["enhance", "x", "-n", "many"], "valid integer")):  # fmt: skip
        code, out, err = command(*arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and words in err and err.startswith("error: "), err
    code, out, err = command()
    assert code == 2 and "enhance" in out and err == ""


def test_what_stops_a_program_is_one_line(capsys):
    def ends(program):
        with pytest.raises(SystemExit) as stop:
            run(program)
        return stop.value.code, capsys.readouterr().err

    def fail(error):
        raise error

    assert ends(lambda: fail(MemoryError())) == (2, "error: there is not enough memory\n")
    assert ends(lambda: torch.empty(2**50))[1].startswith("error: there is not enough memory (")
    assert ends(lambda: fail(OverflowError("2e99 is\ntoo large"))) == (2, "error: 2e99 is too large\n")
    assert ends(lambda: json.loads("[" * 200_000))[0] == 2
    assert ends(lambda: fail(KeyboardInterrupt())) == (130, "stopped\n")
    assert ends(lambda: warnings.warn("on\nand on", stacklevel=1)) == (0, "warning: on and on\n")
    with pytest.raises(ZeroDivisionError):  # a fault of ours
        run(lambda: 1 / 0)


def test_constraints(command):
    wishes = [
        "--artist",
        "alphonse mucha",
        "--style",
        "baroque|rococo",
        "--forbid",
        "highly detailed",
        "--auto",
        "vibe",
    ]
    code, out, _ = command("enhance", "boy on a horse", *wishes, "--require", "golden hour|sunset", "--require", "fog")
    assert code == 0
    assert out.startswith("boy on a horse")
    clauses = [["alphonse mucha"], ["baroque", "rococo"], ["golden hour", "sunset"], ["fog"]]
    assert all(any(word in out for word in of) for of in clauses)
    assert "highly detailed" not in out


def test_a_line_that_cannot_meet_the_constraints_is_reported(command, tmp_path):
    (tmp_path / "in.txt").write_text("a cat\na blurry dog\n")
    code, _, err = command("enhance", "-i", tmp_path / "in.txt", "-o", tmp_path / "out.txt", "--forbid", "blurry")
    assert code == 1
    assert "line 2" in err
    assert (tmp_path / "out.txt").read_text().startswith("a cat, ")


def test_modifiers(command):
    code, out, _ = command("modifiers", "style", "--search", "art deco")
    assert code == 0
    assert "art deco" in out
    assert "baroque" not in out
    assert all(name in command("modifiers", "--limit", 2)[1] for name in ["artist", "vibe"])


def test_help_has_examples_each_on_a_line(command):
    for name in ("enhance", "modifiers", "image", "score", "grid", "evaluate", "optimize", "study"):
        code, out, _ = command(name, "--help")
        lines = [line.strip() for line in out.partition("Examples:")[2].splitlines() if line.strip()]
        assert code == 0 and lines, name
        assert all(line.startswith(("neuroprompt ", "accelerate launch", "cat ")) for line in lines), lines


def test_the_version(command):
    assert command("--version") == (0, f"neuroprompt {neuroprompt.__version__}\n", "")


def test_a_terminal_shows_a_rewrite_on_one_safe_line(command, monkeypatch):
    monkeypatch.setattr("neuroprompt.cli.rewriting.sys.stdout.isatty", lambda: True)
    code, out, _ = command("enhance", "a cat\x1b[31m\nerror: no")
    assert code == 0 and out.startswith(r"a cat\x1b[31m\nerror: no, ") and out.count("\n") == 1


def test_a_killed_run_is_taken_up(tmp_path, enhancer):
    prompts = [f"a castle number {i} on a hill" for i in range(300)]
    (tmp_path / "in.txt").write_text("\n".join(prompts))
    command = [sys.executable, "-m", "neuroprompt.cli", "enhance", "--input", "in.txt", "--num-beams", "1", "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, "out.jsonl"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        parts = list(tmp_path.glob(".out.jsonl.*.part"))
        if parts and parts[0].stat().st_size:
            break
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "out.jsonl").exists()
    again = subprocess.run(
        [*command, "out.jsonl"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "taking up out.jsonl after" in again.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["original"] for r in rows] == prompts
    assert [r["text"] for r in rows] == [r.text for r in enhancer(prompts, num_beams=1)]


def test_a_picture_says_how_it_was_made_and_is_scored(command, tmp_path):
    code, _, err = command("image", "boy on a horse", "--enhance", "--style", "watercolor", "--steps", 1, "-o",
                           tmp_path / "out.png")  # fmt: skip
    assert code == 0 and err.startswith("boy on a horse, ") and "watercolor" in err
    assert "Steps: 1" in Image.open(tmp_path / "out.png").info["parameters"]
    made = read_metadata(tmp_path / "out.png")["neuroprompt"]
    assert made["original"] == "boy on a horse" and made["text"] in err and made["seed"] == 0
    again = command("image", "boy on a horse", "--enhance", "--style", "watercolor", "--steps", 1, "-o",
                    tmp_path / "again.png")  # fmt: skip
    assert again[0] == 0 and (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()

    other = command("image", "a cat", "--steps", 9, "--set", "steps=1", "--set",
                    "scheduler=EulerDiscreteScheduler", "-o", tmp_path / "euler.png")  # fmt: skip
    config = read_metadata(tmp_path / "euler.png")["neuroprompt"]["config"]
    assert other[0] == 0 and (config["steps"], config["scheduler"]) == (1, "EulerDiscreteScheduler")

    code, out, _ = command("score", tmp_path / "out.png", "--json")
    scores = json.loads(out)
    assert code == 0 and scores["original"] == "boy on a horse"
    code, out, _ = command("score", "--prompt", "a castle", tmp_path / "out.png", tmp_path / "again.png")
    assert code == 0 and "pickscore" in out and "".join(out.split()).count(".png") == 2
    assert f"{scores['scores']['aesthetic']:.4f}" in out  # which does not read the prompt


def test_a_grid_of_methods(command, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\na castle\nan owl\n")
    (tmp_path / "human.txt").write_text("a cat by hand\na castle by hand\nan owl by hand\n")
    methods = f"plain,policy:embedded,enhanced,file:{tmp_path / 'human.txt'}"
    code, out, err = command("grid", "--input", tmp_path / "prompts.txt", "--rows", 2, "--images-per-prompt", 2,
                             "--steps", 1, "--methods", methods, "--artist", "monet", "-o", tmp_path / "g.png",
                             "--html", "--rewards", "clip,aesthetic")  # fmt: skip
    assert (code, out) == (0, ""), err
    made = read_metadata(tmp_path / "g.png")["neuroprompt"]
    assert made["columns"] == methods.split(",") and [r["title"] for r in made["rows"]] == ["a cat", "a castle"]
    plain, policy, enhanced, human = made["rows"][0]["cells"]
    assert plain["text"] == "a cat" and human["text"] == "a cat by hand"
    assert "monet" in policy["text"] and "monet" in enhanced["text"]
    assert [p["seed"] for p in enhanced["pictures"]] == [0, 1]
    assert set(plain["pictures"][0]["scores"]) == {"clip", "aesthetic"}
    page = (tmp_path / "g.html").read_text("utf-8")
    record = page.partition('<script type="application/json" id="neuroprompt">')[2].partition("</script>")[0]
    for picture in (p for row in made["rows"] for cell in row["cells"] for p in cell["pictures"]):
        del picture["box"]  # which a page has no use for
    assert json.loads(record) == made and page.count("<img src") == 2 * 4 * 2


def test_the_checkouts_script_is_the_same_grid(command, monkeypatch, tmp_path):
    few = ["boy on a horse", "--steps", "1", "-o", "g.png"]
    monkeypatch.chdir(tmp_path)
    assert command("grid", *few)[0] == 0
    made = Path("g.png").read_bytes()
    plain, enhanced = read_metadata("g.png")["neuroprompt"]["rows"][0]["cells"]
    assert plain["text"] == "boy on a horse" and enhanced["text"].startswith("boy on a horse, ")
    assert plain["pictures"][0]["seed"] == enhanced["pictures"][0]["seed"] == 0
    assert set(enhanced["pictures"][0]["scores"]) == {"pickscore", "aesthetic", "clip"}
    monkeypatch.setattr(sys, "argv", ["compare_grid.py", *few])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "compare_grid.py"), run_name="__main__")
    assert Path("g.png").read_bytes() == made


def test_a_grid_that_its_format_cannot_hold_is_not_lost(command, monkeypatch, tmp_path):
    monkeypatch.setattr("neuroprompt.pages.grid.image.MAX_PIXELS", 1000)
    monkeypatch.chdir(tmp_path)
    few = ["--methods", "plain", "--steps", 1, "--rewards", "aesthetic"]
    code, _, err = command("grid", "a cat", *few, "-o", "g.png")
    assert code == 2 and err.count("\n") == 1 and "all of it is in g.png.html" in err
    assert "a cat" in Path("g.png.html").read_text("utf-8") and os.listdir() == ["g.png.html"]


def test_a_full_disk_is_one_line_and_spares_what_was_there(command, monkeypatch, tmp_path):
    def fail(self, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.chdir(tmp_path)
    Path("g.png").write_text("an older one")
    monkeypatch.setattr(Path, "write_bytes", fail)
    for arguments in (["grid", "a cat", "--methods", "plain"], ["image", "a cat"]):
        code, _, err = command(*arguments, "--steps", 1, "-o", "g.png")
        assert (code, err) == (2, "error: g.png: No space left on device\n")
    assert Path("g.png").read_text() == "an older one" and os.listdir() == ["g.png"]


def test_a_file_that_is_no_picture_does_not_stop_the_others(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (1, 1), "red").save("dot.png")
    Image.new("L", (20_000, 3)).save("strip.png")
    Image.new("RGBA", (9, 8), (200, 30, 60, 128)).save("glass.png")
    Image.new("CMYK", (9, 8), (0, 255, 255, 0)).save("print.jpg")
    Image.fromarray(np.full((8, 9), 257 * 100, np.uint16)).save("deep.png")
    frames = [Image.new("RGB", (9, 8), colour) for colour in ("blue", "lime")]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    Path("text.png").write_text("hello")
    whole = ["dot.png", "glass.png", "print.jpg", "deep.png", "film.gif"]
    embedded = ["--reward-model", "embedded"]
    code, out, err = command("score", "-p", "a cat", "strip.png", *whole, "text.png", "--json", *embedded)
    assert code == 1 and [json.loads(line)["picture"] for line in out.splitlines()] == whole
    text, strip = err.splitlines()
    assert "strip.png: pictures of 3 x 20000 pixels" in strip and "text.png: this is no picture" in text
    code, out, err = command("score", "-p", "a cat", "text.png", "film.gif", *embedded)
    assert code == 1 and "film.gif" in out and "text.png" in err


def test_pickles_are_refused_with_the_reason(command, monkeypatch, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    torch.save(Trap(), "model/pytorch_model.bin")
    few = ["--steps", 1, "-o", "a.png"]
    for arguments, reason in (
        (["image", "a cat", "--enhance", "--model", "./model", *few], "pickled weights"),
        (["image", "a cat", "--generator", "./model", *few], "pickled weights"),
        (["grid", "a cat", "--methods", "policy:./model", *few], "pickled weights"),
        (["grid", "a cat", "--rewards", "clip[./model]", *few], "pickled weights"),
        (["grid", "a cat", "--rewards", "image_reward[./model/pytorch_model.bin]", *few], "refused"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and err.count("\n") == 1 and reason in err and "can run any code" in err, err
    assert os.listdir() == ["model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grid", "-o", "g.png"], "give prompts, or a file"),
        (["grid", "a cat", "-o", "g.bmp"], "this is written to .png"),
        (["grid", "a cat", "-o", "no/such/g.png"], "there is no folder"),
        (["grid", "", "-o", "g.png"], "the prompt is empty"),
        (["grid", "a cat", "-o", "g.png", "--methods", "policy:./nowhere"], "there is no folder './nowhere'"),
        (["grid", "a cat", "-o", "g.png", "--methods", "policy:no/model"], "no/model is not in the hub's cache"),
        (["grid", "a cat", "-o", "g.png", "--rewards", "clip[./nowhere]"], "there is no folder './nowhere'"),
        (["image", "", "-o", "a.png"], "the prompt is empty"),
        (["image", "a cat", "-o", "a.png", "--generator", "no/model"], "no/model is not in the hub's cache"),
        (["image", "a cat", "-o", "a.png", "--device", "abacus"], "there is no device 'abacus'"),
        (["grid", "a cat", "-o", "g.png", "--methods", "magic"], "unknown method 'magic'"),
        (["grid", "a cat", "-o", "g.png", "--rewards", "beauty"], "there is no reward 'beauty'"),
        (["image", "a cat", "-o", "a.png", "--artist", "monet"], "add --enhance"),
        (["image", "a cat", "-o", "a.png", "--generator", "./nowhere"], "there is no folder './nowhere'"),
        pytest.param(
            ["image", "a cat", "-o", "a.png", "--device", "cuda"],
            "there is no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
        (["image", "a cat", "-o", "a.png", "--size", "63"], "multiples of 8 pixels"),
        (["image", "a cat", "-o", "a.png", "--set", "cats"], "write name=value"),
        (["image", "a cat", "-o", "a.png", "--set", "=9"], "write name=value"),
        (["image", "a cat", "-o", "a.png", "--set", "guidance=[[["], "guidance is '[[['"),
        (["image", "a cat", "-o", "a.png", "--steps", "99999999999"], "--steps"),
        (["grid", "a cat", "-o", "g.png", "--images-per-prompt", "99999999999"], "--images-per-prompt"),
        (["grid", "a cat", "-o", "g.png", "--methods", f"best-of-{'9' * 20}"], f"num_return_sequences is {'9' * 20}"),
        (["image", "a cat", "-o", "a.png", "--set", "cats=9"], "no setting 'cats'"),
        (["image", "a cat", "-o", "a.png", "--set", "batch_size=1", "--set", "batch_size=2"], "batch_size twice"),
        (["score", "nothing.png", "--prompt", "a cat"], "there is no such file"),
        (["score", __file__, "--prompt", "a cat"], "no picture"),
        (["score", Path(__file__).parents[1] / "docs" / "grid.webp", "--prompt", ""], "the prompt is empty"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(command, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*arguments)
    assert code == 2 and err.count("\n") == 1 and message in err, err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["image", "a cat"], ["grid", "a cat"], ["grid", "a cat", "--input", "x.txt"]])
def test_where_a_picture_goes_is_looked_at_before_anything_is_loaded(arguments):
    command = [sys.executable, "-X", "importtime", "-m", "neuroprompt.cli", *arguments, "-o", "no/such/g.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "error: there is no folder no/such" in done.stderr
    imported = re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "neuroprompt.image_files" in imported and "torch" not in imported


def test_prompts_and_captions_must_be_as_many(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("none.txt").write_text("\n\n")
    Path("three.txt").write_text("a cat\na castle\nan owl\n")
    for prompts, rest, message in (
        (["--input", "none.txt"], [], "none.txt holds no prompts"),
        (["a cat"], ["--methods", "plain,file:three.txt"], "three.txt has 3 prompts, and there are 1 plain ones"),
        (["a cat"] * 4, ["--methods", "plain,file:three.txt"], "three.txt has 3 prompts, and there are 4 plain ones"),
    ):
        code, _, err = command("grid", *prompts, *rest, "-o", "g.png")
        assert code == 2 and err.count("\n") == 1 and message in err, err
    assert sorted(os.listdir()) == ["none.txt", "three.txt"]


def test_a_picture_that_says_nothing_needs_a_prompt(command, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = command("score", tmp_path / "a.png")
    assert code == 2 and "give a --prompt" in err


def test_a_picture_is_judged_by_the_rewards_that_know_its_kind(command, monkeypatch, tmp_path):
    asked = []

    def note(rewards, model=None, device=None):
        asked.append(model)
        return load_rewards(rewards, "embedded", device)

    monkeypatch.setattr("neuroprompt.rewards.load_rewards", note)
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGB", (8, 8))
    picture.save("photo.png")
    save_image(picture, "ours.png", PictureInfo("a cat", "a cat, 8k", 0, "embedded"))
    save_image(picture, "turbo.jpg", PictureInfo("a cat", "a cat, 8k", 0, "stabilityai/sd-turbo"))
    for arguments, judge in (
        (["ours.png"], "embedded"),
        (["ours.png", "missing.png"], "embedded"),
        (["-p", "x", "photo.png"], None),
        (["turbo.jpg"], None),
        (["ours.png", "turbo.jpg"], None),
        (["turbo.jpg", "--reward-model", "embedded"], "embedded"),
        (["ours.png", "--reward-model", "published"], None),
    ):
        code, _, err = command("score", *arguments, "--rewards", "aesthetic")
        assert code == ("missing.png" in arguments) and asked.pop() == judge
        by_default = judge is None and "published" not in arguments
        assert ("--reward-model embedded" in err) == by_default, err


def test_an_evaluation_resumes_and_says_where_the_report_is(command, monkeypatch, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\na castle\nan owl\n")
    arguments = ["evaluate", "--input", tmp_path / "prompts.txt", "--methods", "plain,suffix", "--images-per-prompt", 1,
                 "--steps", 1, "-o", tmp_path / "results"]  # fmt: skip
    code, out, err = command(*arguments)
    assert code == 0 and "suffix" in out and str(tmp_path / "results" / "report.html") in err, err
    results = (tmp_path / "results" / "results.json").read_text()
    assert command(*arguments)[0] == 0 and (tmp_path / "results" / "results.json").read_text() == results
    code, _, err = command(*arguments, "--seed", 1)
    assert code == 2 and "seed" in err
    # As `accelerate launch` and `torchrun` start them, here one after another.
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments[-1] = tmp_path / "shared"
    for rank, said in ((1, "process 2 of 2 is done"), (0, "report.html")):
        monkeypatch.setenv("RANK", str(rank))
        code, out, err = command(*arguments)
        assert code == 0 and said in err and ("suffix" in out) == (rank == 0), err
    assert (tmp_path / "shared" / "results.csv").read_text() == (tmp_path / "results" / "results.csv").read_text()


def test_a_search_draws_the_best_and_writes_pairs(command, tmp_path):
    few = ["--budget", 6, "--held-out", 2, "--steps", 1]
    code, out, err = command("optimize", "a cat", *few, "-o", tmp_path / "best.png", "--state", tmp_path / "state.json")
    assert code == 0 and out.startswith("a cat") and "gain" in err, err
    made = read_metadata(tmp_path / "best.png")["neuroprompt"]
    assert made["original"] == "a cat" and made["text"] == out.strip()
    assert command("optimize", "a cat", *few, "--state", tmp_path / "state.json")[1] == out
    code, *_ = command("optimize", "a cat", "an owl", *few, "-o", tmp_path / "finds.jsonl")
    assert code == 0 and len((tmp_path / "finds.jsonl").read_text().splitlines()) == 2
    code, _, err = command("optimize", "a cat", "an owl", *few, "-o", tmp_path / "best.png")
    assert code == 2 and "there are 2 prompts" in err

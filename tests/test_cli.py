import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rich.cells import cell_len
from typer import rich_utils

import neuroprompt
from neuroprompt.cli import main
from neuroprompt.cli.commands import app
from neuroprompt.cli.progress import Work
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.image_files import PictureInfo, from_tensor, read_metadata, save_image
from neuroprompt.images import ImageGenerator
from neuroprompt.models import locate
from neuroprompt.programs import Stopped, run
from neuroprompt.prompts import Prompt
from neuroprompt.rewards import load_rewards
from neuroprompt.terminal import say, show
from scripts.document_settings import commands_of
from tests import forks


def run_command(monkeypatch, capsys, *arguments, stdin=None, columns=200):
    """Exit code, standard output and standard error of one command."""
    monkeypatch.setattr(sys, "argv", ["neuroprompt", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", columns)  # which help has, wherever the session's first was shown
    monkeypatch.setattr(rich_utils, "FORCE_TERMINAL", None)
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
    return lambda *arguments, **settings: run_command(monkeypatch, capsys, *arguments, **settings)


def test_all_that_the_policy_writes_is_kept_where_that_is_asked_for(command):
    prompt = "pencil sketch of an apple, photo of it"  # which says what contradicts itself
    made, kept = (
        command("enhance", prompt, "--min-modifiers", 0, "--no-usual", *flags)[1].strip()
        for flags in ((), ("--no-coherent",))
    )
    assert kept != made and set(Prompt.parse(made).segments) < set(Prompt.parse(kept).segments)
    code, _, err = command("image", "a cat", "--no-coherent", "-o", "cat.png")
    assert code and "add --enhance" in err


def test_one_line_out(command):
    code, out, _ = command("enhance", "boy on a horse")
    assert code == 0
    assert out.startswith("boy on a horse, ")
    assert out.count("\n") == 1


def test_variants(command):
    _, out, _ = command("enhance", "boy on a horse", "-n", 4, "--seed", 7)
    assert len(set(out.splitlines())) == 4
    code, objects, err = command("enhance", "boy on a horse", "-n", 4, "--seed", 7, "--json")
    records = [json.loads(line) for line in objects.splitlines()]
    assert (code, err) == (0, "") and [r["text"] for r in records] == out.splitlines()
    assert all(r["original"] == "boy on a horse" and r["modifiers"] for r in records)


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

    code, _, err = command("image", "word " * 90, "--for", "flux", "--steps", 1, "-o", tmp_path / "a.png")
    assert (code, err) == (0, "")


def test_what_is_forbidden_and_what_a1111_writes_below_the_prompt_is_the_negative_prompt(command, tmp_path):
    file, asked = tmp_path / "a.png", ("--enhance", "--forbid", "people", "--steps", 1)
    code, _, err = command("image", "a cat\nNegative prompt: blurry", *asked, "--negative", "ugly", "-o", file)
    made = read_metadata(file)
    assert code == 0 and made["neuroprompt"]["original"] == "a cat" and "warning" not in err
    assert made["neuroprompt"]["config"]["negative"] == "ugly, blurry, people"
    assert "\nNegative prompt: ugly, blurry, people\nSteps: 1," in made["parameters"]
    own = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1, negative="ugly, blurry, people")
    assert np.array_equal(Image.open(file), from_tensor(own([made["neuroprompt"]["text"]], [0])[0]))
    code, _, err = command("image", "a cat", *asked, "--guidance", 1, "-o", file)
    assert code == 0 and err.count("embedded takes no negative prompt as it is drawn with: it is left out") == 1
    assert read_metadata(file)["neuroprompt"]["config"]["negative"] is None


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
        (["enhance", "x", "--if-better", "1"], "1 picture of each prompt cannot tell a gain from chance"),
        (["enhance", "x", "--judge", "clip"], "--judge is for --if-better"),
        (["enhance", "x", "--generator", "./missing"], "--generator is for --if-better"),
        (["enhance", "x", "--generator", "./missing", "--if-better", "4"], "there is no folder"),
        (["enhance", "x", "--if-better", "4", "--judge", "taste"], "there is no reward 'taste'"),
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


def test_former_spellings_are_refused_with_those_of_today(command):
    for arguments, old, new in ((["grid", "x", "--seeds", 2], "--seeds", "--images-per-prompt"),
                                (["evaluate", "--prompts=x.txt"], "--prompts", "--input"),
                                (["study", "--prompts", "x.txt"], "--prompts", "--input"),
                                (["evaluate", "--cache", "x"], "--cache", "--score-cache")):  # fmt: skip
        code, _, err = command(*arguments)
        assert code == 2 and err.startswith(f"error: {old} is called {new} now"), err
    assert "No such option: --seeds" in command("enhance", "x", "--seeds", 2)[2]


def test_variables_of_the_environment_are_defaults(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\n")
    for name, value, arguments, message in (
        ("MODEL", "./nowhere", ["enhance", "x"], "there is no folder './nowhere'"),
        ("DEVICE", "abacus", ["enhance", "x"], "there is no device 'abacus'"),
        ("SCORE_CACHE", "no/such.db", ["evaluate", "-i", "in.txt", "-o", "r"], "no folder no for the score cache"),
    ):
        with monkeypatch.context() as environment:
            environment.setenv(f"NEUROPROMPT_{name}", value)
            code, _, err = command(*arguments)
            assert code == 2 and message in err, err
    monkeypatch.setenv("NEUROPROMPT_MODEL", "./nowhere")
    assert command("enhance", "a cat", "--model", "embedded")[0] == 0  # the command line beats it


def test_a_shell_completes(command, monkeypatch):
    monkeypatch.setenv("_NEUROPROMPT_COMPLETE", "source_bash")
    assert "_NEUROPROMPT_COMPLETE=complete_bash" in command()[1]
    monkeypatch.setenv("_NEUROPROMPT_COMPLETE", "complete_bash")
    for typed, completed in (("neuroprompt enh", ["enhance"]), ("neuroprompt modifiers per", ["perspective"]),
                             ("neuroprompt enhance --num-b", ["--num-beams"])):  # fmt: skip
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
        assert command()[1].split() == completed


def test_options_of_the_other_way_to_decode_are_said(command):
    _, out, err = command("enhance", "a cat", "--diversity", 0.3)
    assert err == "warning: --diversity has no effect, as the policy samples: add --search, or leave it out\n"
    assert out == command("enhance", "a cat")[1]
    err = command("enhance", "a cat", "--search", "--temperature", 0.3, "--top-k", 5)[2]
    assert [line.split()[1] for line in err.splitlines()] == ["--temperature", "--top-k"]
    assert command("enhance", "a cat", "--sample", "--temperature", 0.3)[2] == ""


def test_what_stops_a_program_is_one_line(capsys, monkeypatch):
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
    assert ends(lambda: fail(Stopped("stopped after 3 prompts"))) == (130, "stopped after 3 prompts\n")
    assert ends(lambda: warnings.warn("on\nand on", stacklevel=1)) == (0, "warning: on and on\n")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which this sets
    with pytest.raises(ZeroDivisionError, match="hostile") as fault:  # a fault of ours
        run(lambda: fail(ZeroDivisionError("hostile \x1b]0;owned\x07")))
    sys.excepthook(*fault._excinfo)
    shown = capsys.readouterr().err
    assert "Traceback" in shown and r"hostile \x1b]0;owned\x07" in shown and "\x1b" not in shown


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
    known = [json.loads(line) for line in command("modifiers", "style", "--limit", 2, "--json")[1].splitlines()]
    assert [m["category"] for m in known] == ["style"] * 2 and all(m["prompts"] > 0 and m["modifier"] for m in known)


def test_help_has_examples_each_on_a_line(command):
    for name in commands_of(typer.main.get_command(app)):
        code, out, _ = command(*name.split(), "--help")
        lines = [line.strip() for line in out.partition("Examples:")[2].splitlines() if line.strip()]
        assert code == 0 and lines, name
        begins = "neuroprompt ", "accelerate launch", "cat ", "curl ", "NEUROPROMPT_API_KEY="
        assert all(line.startswith(begins) for line in lines), lines


def test_help_is_sentences_and_whole_in_80_columns(command, monkeypatch):
    """All that is given, at a width where the layout has to break it; `…` is where Rich cuts."""
    for name, of in commands_of(typer.main.get_command(app)).items():
        monkeypatch.setattr(sys, "argv", ["neuroprompt", *name.split(), "--help"])
        with pytest.raises(SystemExit):
            run(lambda: app(standalone_mode=False))
        out = command(*name.split(), "--help", columns=80)[1]
        assert all(cell_len(line) <= 80 for line in out.splitlines())
        words = {word.strip("[]") for word in re.sub(r"[│*]", " ", out).split()}
        for parameter in of.params:
            assert parameter.help.endswith((".", "exit.")), (name, parameter.name)
            wanted = [*parameter.opts, *parameter.help.split(), getattr(parameter, "envvar", None)]
            missing = [word for word in wanted if word and word not in words and parameter.param_type_name == "option"]
            assert not missing, (name, missing)


def test_the_version(command):
    assert command("--version") == (0, f"neuroprompt {neuroprompt.__version__}\n", "")


def test_a_terminal_shows_a_rewrite_on_one_safe_line(command, monkeypatch):
    monkeypatch.setattr("neuroprompt.cli.rewriting.sys.stdout.isatty", lambda: True)
    code, out, _ = command("enhance", "a cat\x1b[31m\nerror: no")
    assert code == 0 and out.startswith(r"a cat\x1b[31m\nerror: no, ") and out.count("\n") == 1


def test_a_run_that_was_stopped_and_killed_is_taken_up(tmp_path, enhancer):
    prompts = [f"a castle number {i} on a hill" for i in range(40)]
    (tmp_path / "in.txt").write_text("\n".join(prompts) + "\n")
    command = ["-m", "neuroprompt.cli", "enhance", "-i", "in.txt", "-o", "out.jsonl", "--batch-size", "4"]

    def written():
        return sum(part.stat().st_size for part in tmp_path.glob(".out.jsonl.*.part"))

    for sent in (signal.SIGINT, signal.SIGKILL):
        before, log = written(), tmp_path / f"{sent.name}.txt"
        process = forks.start(command, tmp_path, log)
        while written() == before and process.is_alive():
            time.sleep(0.02)
        os.kill(process.pid, sent)
        process.join()
        said = log.read_text()
        assert not (tmp_path / "out.jsonl").exists()
        if sent == signal.SIGINT:
            assert process.exitcode == 130
            assert re.fullmatch(r"stopped after \d+ of 40 prompts; the same command goes on from there\n", said), said
        else:
            assert process.exitcode == -signal.SIGKILL and "taking up out.jsonl after" in said
    again = forks.run(command, tmp_path)
    assert again.returncode == 0 and "taking up out.jsonl after" in again.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["original"] for r in rows] == prompts
    assert [r["text"] for r in rows] == [r.text for r in enhancer(prompts)]


def test_ctrl_c_in_an_import_is_one_line(tmp_path):
    """Where C++ is in the middle of something, an exception could only be an abort."""
    (tmp_path / "library.py").write_text(
        "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
        "except BaseException:\n    print('swallowed')\n"
    )
    program = "from neuroprompt.programs import run; run(lambda: __import__('library'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_another_policys_file_is_not_taken_up(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\na dog\nan owl\n")
    shutil.copytree(locate("embedded", "policy"), "policy")
    arguments = ["enhance", "-i", "in.txt", "-o", "out.jsonl", "--model", "./policy", "--batch-size", 1]
    with monkeypatch.context() as patch:
        patch.setattr(Work, "update", lambda *_: interrupt())
        assert command(*arguments)[0] == 130
        assert command(*arguments)[0] == 130  # takes up the first prompt, and begins the second
    config = Path("policy/generation_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"temperature": 0.01}))  # trained on, say
    code, _, err = command(*arguments)
    assert code == 0 and "taking up" not in err
    rows = [json.loads(line)["text"] for line in Path("out.jsonl").read_text().splitlines()]
    assert rows == [e.text for e in PromptEnhancer.from_pretrained("./policy")(["a cat", "a dog", "an owl"])]


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "-i", "in.txt", "--methods", "plain,suffix", "-o", "r"], "4 of 8 pictures; the same command"),
        (["study", "-i", "in.txt", "--axes", "booster=8k", "-o", "r"], "1 of 2 prompts; the same command goes on"),
        (["optimize", "-i", "in.txt", "--budget", "6", "--state", "s.json"], "6 pictures; this is the best so far; "),
        (["optimize", "-i", "in.txt", "--budget", "6"], "6 pictures; this is the best so far\n"),
        (["grid", "-i", "in.txt", "-o", "g.png"], "2 of 8 pictures; nothing is written"),
    ],
)
def test_ctrl_c_says_what_stays_and_how_to_go_on(command, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\nan owl\n")
    few = ["--images-per-prompt", 2, "--steps", 1, "--rewards", "aesthetic"]
    update = Work.update

    def stop(self, done, total, description=None):
        update(self, done, total, description)
        if done > 1 or arguments[0] == "study":
            interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Work, "update", stop)
        code, _, err = command(*arguments, *few)
    assert code == 130 and f"stopped after {said}" in err and err.count("stopped") == 1, err
    if arguments[0] == "study":
        code, out, err = command(*arguments, *few, "--json")
        assert code == 0 and json.loads(out)["output"] == "r" and "report.html" in err, err


def test_who_rewrites_belongs_to_the_generator(command, enhancer, tmp_path):
    tuned = PromptEnhancer.from_pretrained("embedded-ppo", "cpu")
    for generator, policy in (("embedded", tuned), (locate("embedded", "stable-diffusion"), enhancer)):
        command("image", "a castle", "--enhance", "--generator", generator, "--steps", 1, "-o", tmp_path / "out.png")
        assert read_metadata(tmp_path / "out.png")["neuroprompt"]["text"] == policy("a castle").text


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
                    "scheduler=EulerDiscreteScheduler", "--size", "64x32", "--json", "-o",
                    tmp_path / "euler.png")  # fmt: skip
    assert Image.open(tmp_path / "euler.png").size == (64, 32)
    said = json.loads(other[1])
    assert said.pop("output") == str(tmp_path / "euler.png")
    assert said == read_metadata(tmp_path / "euler.png")["neuroprompt"]
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
                             "--html", "--rewards", "clip,aesthetic", "--json")  # fmt: skip
    assert code == 0, err
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
        del picture["box"]  # which only a picture has
    assert json.loads(out) == {"output": str(tmp_path / "g.png")} | made
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
        (["image", "a cat", "-o", "a.png", "--for", "sd3"], "no family of generators 'sd3': choose from sd15, sd21"),
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


AT_ONCE = [
    (["image", "a cat", "-o", "no/such/g.png"], "there is no folder no/such"),
    (["image", "a cat", "-o", "g.png", "--set", "cats"], "write name=value"),
    (["image", "a cat", "-o", "g.png", "--generator", "./nowhere"], "there is no folder './nowhere'"),
    (["image", "a cat", "-o", "g.png", "--style", "baroque"], "add --enhance"),
    (["grid", "a cat", "-o", "no/such/g.png"], "there is no folder no/such"),
    (["grid", "a cat", "--input", "x.txt", "-o", "g.png"], "one of the two"),
    (["enhance", "a cat", "-o", "no/such.jsonl"], "there is no folder no"),
    (["enhance", "a cat", "-o", "out.jsonl", "--json"], "--json is for standard output"),
    (["enhance", "a cat", "--model", "./nowhere"], "there is no folder './nowhere'"),
    (["enhance", "a cat", "--judge", "clip"], "--judge is for --if-better"),
    (["enhance", "a cat", "--require", "fog", "--forbid", "fog"], "is also forbidden"),
    (["enhance", "", "--json"], "the prompt is empty"),
    (["evaluate", "-i", "no.txt", "-o", "r"], "cannot read no.txt"),
    (["evaluate", "-i", "in.txt", "-o", "in.txt"], "this is written to a folder"),
    (["evaluate", "-i", "in.txt", "-o", "r", "--shard", "3/2"], "there is no shard '3/2'"),
    (["optimize", "a cat", "--state", "no/s.json", "--budget", "x"], "valid integer"),
    (["optimize", "a cat", "--chat-url", "http://localhost"], "needs both"),
    (["enhance", "a cat", "--backend", "jax"], "there is no backend 'jax': choose from auto, torch, numpy"),
    (["study", "-o", "r", "-i", "in.txt"], "a study needs --axes and --input"),
    (["study", "-o", "r", "-i", "in.txt", "--axes", "colour"], "colour"),
]


def test_what_can_be_known_at_once_is_said_before_pytorch_is_loaded(tmp_path):
    """One process for all: each message comes, in well under a second, and torch does not."""
    (tmp_path / "in.txt").write_text("a cat\n")
    program = """
import sys, time
from neuroprompt.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv, began = ["neuroprompt", *eval(line)], time.process_time()
    try:
        main()
    except SystemExit as end:
        assert end.code == 2
    print(f"{time.process_time() - began:.2f} s", "torch" in sys.modules, file=sys.stderr)
"""
    lines = "\n".join(repr(arguments) for arguments, _ in AT_ONCE)
    done = subprocess.run([sys.executable, "-c", program], input=lines, cwd=tmp_path, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert len(said) == 2 * len(AT_ONCE), done.stderr
    for (arguments, message), error, facts in zip(AT_ONCE, said[::2], said[1::2], strict=True):
        assert error.startswith("error: ") and message in error, (arguments, error)
        assert float(facts.split()[0]) < 1 and facts.endswith("False"), (arguments, facts)


@pytest.mark.parametrize(("backend", "loaded"), [("auto", False), ("numpy", False), ("torch", True)])
def test_a_prompt_is_rewritten_without_torch_unless_it_is_asked_for(backend, loaded):
    program = """
import sys
from neuroprompt.cli import main
try:
    main()
finally:
    print(any(name in sys.modules for name in ("torch", "transformers")), file=sys.stderr)
"""
    wanted = ["enhance", "boy on a horse", "--style", "baroque", "--backend", backend]
    done = subprocess.run([sys.executable, "-c", program, *wanted], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == str(loaded), done.stderr
    assert done.stdout == "boy on a horse, cinematic composition, baroque, masterpiece, highly detailed\n"


def test_prompts_and_captions_must_be_as_many(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("none.txt").write_text("\n\n")
    Path("three.txt").write_text("a cat\na castle\nan owl\n")
    for prompts, rest, message in (
        (["--input", "none.txt"], [], "none.txt holds no prompts"),
        (["a cat"], ["--methods", "plain,file:three.txt"], "three.txt has 3 prompts for 1 plain one:"),
        (["a cat"] * 4, ["--methods", "plain,file:three.txt"], "three.txt has 3 prompts for 4 plain ones:"),
    ):
        code, _, err = command("grid", *prompts, *rest, "-o", "g.png")
        assert code == 2 and err.count("\n") == 1 and message in err, err
    assert sorted(os.listdir()) == ["none.txt", "three.txt"]


def test_a_table_of_scores_fits_80_columns_and_cuts_nothing(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name = "a_picture_with_a_name_that_is_longer_than_any_terminal_is_wide_" + "x" * 40 + "_at_the_end.png"
    save_image(Image.new("RGB", (8, 8)), name, PictureInfo("a cat", "a cat", 0, "embedded"))
    rewards = ["--rewards", "pickscore,aesthetic,clip"]
    scores = json.loads(command("score", name, *rewards, "--json")[1])["scores"]
    code, out, _ = command("score", name, *rewards, columns=80)
    assert code == 0 and all(len(line) <= 80 for line in out.splitlines())
    assert all(f"{score:.4f}" in out for score in scores.values()) and "…" not in out
    assert "".join(line.split()[0] for line in out.splitlines()[1:]) == name


def test_a_picture_that_says_nothing_needs_a_prompt(command, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = command("score", tmp_path / "a.png")
    assert code == 2 and "give a --prompt" in err


def test_a_picture_is_judged_by_the_rewards_that_know_its_kind(command, monkeypatch, tmp_path):
    asked = []

    def note(rewards, model=None, device=None, atoms=None):
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
        (["-p", "x", "photo.png"], "published"),
        (["turbo.jpg"], "published"),
        (["ours.png", "turbo.jpg"], "published"),
        (["turbo.jpg", "--reward-model", "embedded"], "embedded"),
        (["ours.png", "--reward-model", "published"], "published"),
    ):
        code, _, err = command("score", *arguments, "--rewards", "aesthetic")
        assert code == ("missing.png" in arguments) and asked.pop() == judge
        by_default = judge == "published" and "published" not in arguments
        assert ("--reward-model embedded" in err) == by_default, err


def test_an_evaluation_resumes_and_says_where_the_report_is(command, monkeypatch, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\na castle\nan owl\n")
    arguments = ["evaluate", "--input", tmp_path / "prompts.txt", "--methods", "plain,suffix", "--images-per-prompt", 1,
                 "--steps", 1, "-o", tmp_path / "results"]  # fmt: skip
    code, out, err = command(*arguments)
    assert code == 0 and "suffix" in out and str(tmp_path / "results" / "report.html") in err, err
    results = (tmp_path / "results" / "results.json").read_text()
    code, out, _ = command(*arguments, "--json")
    assert code == 0 and (tmp_path / "results" / "results.json").read_text().replace(" --json", "") == results
    assert json.loads(out)["output"] == str(tmp_path / "results")
    assert json.loads(out)["methods"] == json.loads(results)["methods"]
    code, _, err = command(*arguments, "--seed", 1)
    assert code == 2 and "seed" in err
    # As `accelerate launch` and `torchrun` start them, here one after another.
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments[-1] = tmp_path / "shared"
    for rank, said in ((1, "share 2 of 2 is done"), (0, "report.html")):
        monkeypatch.setenv("RANK", str(rank))
        code, out, err = command(*arguments)
        assert code == 0 and said in err and ("suffix" in out) == (rank == 0), err
    assert (tmp_path / "shared" / "results.csv").read_text() == (tmp_path / "results" / "results.csv").read_text()


def test_a_suffix_is_searched_and_held_against_what_reads(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\na castle\nan owl\na red boat\n")
    Path("mine.py").write_text(
        "def planted(prompts, images, texts):\n"
        "    return [3.0 * ('sharp focus' in text) - 0.1 * text.count(',') for text in texts]\n"
    )
    judged = ["--rewards", "mine.py:planted", "--steps", 1]
    search = ["suffix", "-i", "in.txt", "--budget", 48, "--length", 1, *judged, "-o", "suffix.txt"]
    code, out, err = command(*search)
    assert (code, out) == (0, "sharp focus\n") and "gain +2.90 ± 0.00; " in err, err
    assert Path("suffix.txt").read_text() == out
    result = json.loads(Path("suffix.json").read_text())["result"]
    assert result["suffix"] == "sharp focus" and 24 < result["pictures"] <= 48
    with monkeypatch.context() as patched:
        patched.setattr("neuroprompt.scoring.PromptReward.measure", None)
        code, out, err = command(*search, "--json")  # from what is known, without a picture
    assert code == 0 and json.loads(out) == {"output": "suffix.txt"} | result, err
    methods = "plain,suffix:suffix.txt,file:mine.txt,swapped:file:mine.txt,random:file:mine.txt"
    Path("mine.txt").write_text("a cat, sharp focus\na castle, hdr, 8k\nan owl\na red boat, ink\n")
    code, out, err = command("evaluate", "-i", "in.txt", "--methods", methods, "--against", "swapped:file:mine.txt",
                             "--images-per-prompt", 1, *judged, "-o", "results", "--json")  # fmt: skip
    assert code == 0, err
    results = json.loads(out)
    assert results["methods"]["suffix:suffix.txt"]["reward"]["mean"] == pytest.approx(2.9)
    # All tails are there in both, but for none that a prompt says itself: only who has them differs.
    own, swapped = (results["methods"][name]["reward"]["mean"] for name in methods.split(",")[2:4])
    assert own == pytest.approx(swapped) == pytest.approx((3 - 0.4) / 4)
    against = results["references"]["swapped:file:mine.txt"]["file:mine.txt"]
    assert against["reward"]["difference"]["mean"] == pytest.approx(0, abs=1e-9)
    assert "Against swapped:file:mine.txt" in Path("results/table.md").read_text()
    code, out, _ = command("suffix", "--frequent-in", "results/records.jsonl", "--length", 1, "-o", "frequent.txt")
    assert (code, out) == (0, "sharp focus\n") and Path("frequent.txt").read_text() == out


def test_a_search_draws_the_best_and_writes_pairs(command, tmp_path):
    few = ["--budget", 6, "--held-out", 2, "--steps", 1]
    code, out, err = command("optimize", "a cat", *few, "-o", tmp_path / "best.png", "--state", tmp_path / "state.json")
    assert code == 0 and out.startswith("a cat") and "gain" in err, err
    made = read_metadata(tmp_path / "best.png")["neuroprompt"]
    assert made["original"] == "a cat" and made["text"] == out.strip()
    found = json.loads(command("optimize", "a cat", *few, "--state", tmp_path / "state.json", "--json")[1])
    assert found["text"] == out.strip() and found["complete"] and found["original"] == "a cat"
    searched = ("optimize", "a cat", "--search-negative", *few)
    code, out, err = command(*searched, "--budget", 16, "-o", tmp_path / "best.png", "--json")
    best = json.loads(out)
    drawn = [row["negative"] for row in best["measured"]]
    assert code == 0 and None in drawn and len(set(drawn)) > 3 and best["negative"] in drawn, err
    made = read_metadata(tmp_path / "best.png")["neuroprompt"]
    assert (made["text"], made["config"]["negative"]) == (best["text"], best["negative"])
    code, _, err = command(*searched, "--guidance", 1)
    assert code == 2 and "embedded takes no negative prompt as it is drawn with, so there is none to search" in err
    code, *_ = command("optimize", "a cat", "an owl", *few, "-o", tmp_path / "finds.jsonl")
    assert code == 0 and len((tmp_path / "finds.jsonl").read_text().splitlines()) == 2
    code, _, err = command("optimize", "a cat", "an owl", *few, "-o", tmp_path / "best.png")
    assert code == 2 and "there are 2 prompts" in err

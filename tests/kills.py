"""Kills at random moments, pairs of writers among them: what is taken up afterwards is what an undisturbed run makes.

    python tests/kills.py --kills 100

Each round runs one command in a folder of its own and kills it (SIGKILL) at a random moment of its length: alone, or
with a twin that was started at the same time, or with an heir that is started as soon as it is dead and killed, too.
Then the command is run to its end, and all that it leaves is compared with what an undisturbed run leaves: nothing
missing, nothing twice, the same numbers, and no other file.

Processes are forks of this one, which has imported what they need and run nothing of it, so a round costs no imports.
"""

import json
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Command:
    """A command line and what an undisturbed run of it makes.

    Attributes:
        name: In the table.
        arguments: Of `neuroprompt`; or a script, and its arguments. What it writes goes to the folder ``out``.
        seconds: That an undisturbed run takes.
        wanted: What one leaves, see `read_folder`.
        counts: Of what the rounds came to.
    """

    name: str
    arguments: Sequence[object]
    seconds: float = 0.0
    wanted: dict[str, object] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def play(self, inputs: Path, folder: Path, rng: random.Random) -> list[str]:
        """One round in a new folder; what it leaves that it should not, in words."""
        shutil.copytree(inputs, folder, symlinks=True)
        moment, company = rng.uniform(0, self.seconds), rng.choice(["nobody", "nobody", "twin", "heir"])
        running = [Process(self.arguments, folder)]
        if company == "twin":
            running.append(Process(self.arguments, folder))
        time.sleep(moment)
        self.counts["kills"] += rng.choice(running).kill()
        if company == "heir":
            running.append(Process(self.arguments, folder))
            time.sleep(rng.uniform(0, self.seconds))
            self.counts["kills"] += running[-1].kill()
        self.counts["rounds"] += 1
        self.counts["pairs"] += company != "nobody"
        wrong = []
        for process in running:
            if process.refused:
                self.counts["refused"] += 1
            elif process.code not in (0, -signal.SIGKILL):
                wrong.append(f"a process ended with {process.code}: {process.said}")
        last = Process(self.arguments, folder)
        if last.code:
            wrong.append(f"what was killed could not be ended ({last.code}): {last.said}")
        found = read_folder(folder / "out")
        for name in sorted(found.keys() | self.wanted.keys()):
            if name not in found or name not in self.wanted:
                wrong.append(f"{name} is {'missing' if name in self.wanted else 'litter'}")
            elif found[name] != self.wanted[name]:
                wrong.append(f"{name} differs: {_difference(self.wanted[name], found[name])}")
        self.counts["same"] += not wrong
        return [f"{self.name}, {company}, killed after {moment:.2f} s: {what}" for what in wrong]


class Process:
    """A fork that runs a command in a folder."""

    def __init__(self, arguments: Sequence[object], folder: Path):
        self._log, log = tempfile.mkstemp(".log")[::-1]
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _run([str(argument) for argument in arguments], folder, log)
        os.close(log)

    def kill(self) -> bool:
        """Whether it had not ended by itself."""
        os.kill(self.pid, signal.SIGKILL)
        return self.code == -signal.SIGKILL

    @property
    def code(self) -> int:
        """How it ended, once it has."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # the workers of `datasets` outlive a process that is killed
        return self._code

    @property
    def said(self) -> str:
        self.code  # noqa: B018 (waits)
        return Path(self._log).read_text()[-2000:]

    @property
    def refused(self) -> bool:
        return self.code in (1, 2) and "is being written by process" in self.said


def _run(arguments: list[str], folder: Path, log: int) -> None:
    """In the fork: run the command, and end with its exit code."""
    code = 0
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.path.insert(0, str(folder))
        if arguments[0].endswith(".py"):
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            from neuroprompt.cli import main

            sys.argv = ["neuroprompt", *arguments]
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- what is compared --------------------------------------------------------------------------------------------

_CLOCK = re.compile(r"second|runtime|per_s|latency|commit|_time|flos|train_loss")
"""Keys of what two undisturbed runs differ in, and of the mean loss since a training was last taken up."""


def read_folder(folder: Path) -> dict[str, object]:
    """All files that a command has left, by name, without what depends on the clock."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = str(path.relative_to(folder)), path.read_bytes()
        if path.suffix == ".jsonl":
            found[name] = [_timeless(json.loads(line)) for line in data.decode().split("\n")[:-1]]
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(data))
        elif path.suffix == ".md":
            found[name] = data.partition(b"## Latency")[0]
        else:  # a page shows seconds, pickles and archives hold ids
            found[name] = None if path.suffix in (".html", ".bin", ".pt", ".pth") else data
    return found


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(of) for key, of in value.items() if not _CLOCK.search(key)}
    return [_timeless(of) for of in value] if isinstance(value, list) else value


def _difference(wanted: object, found: object) -> str:
    """The first of them, in words."""
    for a, b in zip(wanted, found, strict=False) if isinstance(wanted, list) else ():
        if a != b:
            wanted, found = a, b
            break
    return f"{str(found)[:300]} and not {str(wanted)[:300]}"


# --- the commands ------------------------------------------------------------------------------------------------

_REWARD = """
def words(prompts, completions, completion_ids):
    return [0.1 * len(ids) + c.count("a") - c.count("e") for c, ids in zip(completions, completion_ids)]
"""
_TINY = {"vocabulary": 300, "width": 32, "layers": 1, "heads": 2, "positions": 64}
_TRAINING = {
    "model_name_or_path": "init",
    "output_dir": "out",
    "per_device_train_batch_size": 8,
    "max_steps": 12,
    "save_steps": 2,
    "save_total_limit": 3,
    "eval_steps": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "bf16": "false",
    "use_cpu": "true",
    "report_to": "none",
    "resume_from_checkpoint": "true",
}
_SFT = {
    "config": ROOT / "configs/sft/embedded.yaml",
    "data_dir": "data",
    "minibatch_size": 64,
    "max_length": 64,
    "dataset_num_proc": "none",
}
_PPO = {
    "queries": "prompts.txt",
    "reward_func": "rewards:words",
    "eval_samples": 4,
    "eval_strategy": "steps",
    "max_new_tokens": 6,
    "rollout_batch_size": 16,
    "completions_per_prompt": 2,
    "num_ppo_epochs": 2,
    "min_distinct_tails": 0,
}


def _flags(settings: dict[str, object]) -> list[object]:
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


_ENHANCE = {"input": "prompts.txt", "variants": 2, "batch-size": 16, "output": "out/out.jsonl"}
_PICTURES = {"images-per-prompt": 1, "steps": 1, "rewards": "aesthetic"}
_EVALUATE = {"input": "prompts.txt", "methods": "plain,suffix", "output": "out"} | _PICTURES
_STUDY = {"input": "prompts.txt", "axes": "booster=8k", "output": "out"} | _PICTURES
_OPTIMIZE = {"input": "two.txt", "budget": 6, "held-out": 1, "state": "out/state.json", "output": "out/finds.jsonl"}

COMMANDS = (
    Command("enhance", ["enhance", *_flags(_ENHANCE)]),
    Command("evaluate", ["evaluate", *_flags(_EVALUATE)]),
    Command("study", ["study", *_flags(_STUDY)]),
    Command("optimize", ["optimize", *_flags(_OPTIMIZE | _PICTURES)]),
    Command("SFT", [ROOT / "training/sft.py", *_flags(_SFT | _TRAINING)]),
    Command("PPO", [ROOT / "training/ppo.py", *_flags(_PPO | _TRAINING)]),
)


def prepare(folder: Path) -> None:
    """What the commands read: prompts, prepared data, a tiny policy, a reward."""
    things, places = ("fox", "owl", "horse"), ("in a forest", "at night", "by the sea", "on a hill")
    subjects = [f"{c} {t} {p}" for c in ("red", "old", "grey", "wild") for t in things for p in places]
    (folder / "out").mkdir(parents=True)
    (folder / "prompts.txt").write_text("\n".join(subjects))
    (folder / "two.txt").write_text("\n".join(subjects[:2]))
    (folder / "rewards.py").write_text(_REWARD)
    styles = ("oil painting, highly detailed", "digital art, sharp focus", "8k, cinematic lighting, by greg rutkowski")
    (folder / "expert.txt").write_text("\n".join(f"{s}, {style}" for s in subjects for style in styles))
    loose = {"num_proc": 1, "near_duplicate": 1.0, "max_per_tail": 1000, "max_per_prefix": 1000}
    for arguments in (
        [ROOT / "scripts/prepare_data.py", *_flags({"source": "expert.txt", "output": "data"} | loose)],
        [ROOT / "training/embedded/init_policy.py", *_flags({"data": "data", "output": "init"} | _TINY)],
    ):
        made = Process(arguments, folder)
        if made.code:
            raise RuntimeError(made.said)


def main(
    kills: Annotated[int, typer.Option(min=1, help="How many, over all commands.")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed, other moments.")] = 0,
    only: Annotated[str, typer.Option(help="One command's name.", show_default=False)] = "",
) -> None:
    """Kill commands at random moments, and compare what becomes of them with undisturbed runs."""
    commands, console, rng = [c for c in COMMANDS if only in ("", c.name)], Console(), random.Random(seed)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{scratch}/cache", "CUDA_VISIBLE_DEVICES": ""}
        os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}
        tempfile.tempdir = scratch
        _import_everything()
        inputs = Path(scratch, "inputs")
        prepare(inputs)
        for i in count():
            if sum(command.counts["kills"] for command in commands) >= kills:
                break
            folder = Path(scratch, f"round-{i}")
            command = commands[i % len(commands)]
            if not command.seconds:
                _run_undisturbed(command, inputs, Path(scratch, f"undisturbed-{command.name}"))
            found = command.play(inputs, folder, rng)
            for line in found:
                console.print(f"round {i}: {line}", markup=False, highlight=False)
            wrong += found
            shutil.rmtree(folder)
    table = Table(
        "command", "s undisturbed", "rounds", "kills", "pairs of writers", "refused", "same as undisturbed", box=None
    )
    for c in commands:
        of = c.counts
        numbers = (of["rounds"], of["kills"], of["pairs"], of["refused"], of["same"])
        table.add_row(c.name, f"{c.seconds:.1f}", *map(str, numbers))
    console.print(table)
    raise typer.Exit(int(bool(wrong)))


def _run_undisturbed(command: Command, inputs: Path, folder: Path) -> None:
    shutil.copytree(inputs, folder)
    began = time.monotonic()
    undisturbed = Process(command.arguments, folder)
    if undisturbed.code:
        raise RuntimeError(f"{command.name} fails undisturbed: {undisturbed.said}")
    command.seconds, command.wanted = time.monotonic() - began, read_folder(folder / "out")


def _import_everything() -> None:
    """Once for all forks; nothing of it runs here, since threads do not survive a fork."""
    sys.path.insert(0, str(ROOT))
    import accelerate  # noqa: F401
    import diffusers  # noqa: F401
    import open_clip  # noqa: F401
    import peft  # noqa: F401
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast  # noqa: F401
    from trl import SFTTrainer  # noqa: F401


if __name__ == "__main__":
    typer.run(main)

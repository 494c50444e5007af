"""Runs the steps: each a command as the documents give it, in a process of its own, two at a time.

A command that starts Python is a fork of a process that has imported the libraries already (`tests.forks`), so that a
step costs its work and not ten seconds of imports, and so are the processes that it launches.
"""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests import forks


@dataclass(frozen=True)
class Step:
    """A command, and what the rehearsal changes of it.

    Attributes:
        name: In the table; other steps name it in `after`.
        command: As the documents give it.
        changed: Arguments that are added to it: fewer steps, less data, the CPU.
        launch: Arguments that are added for `accelerate launch`: fewer processes.
        after: Steps that must have succeeded before.
        makes: Files or folders that are there afterwards.
        needs: A module without which the step is skipped, by name.
        check: What else must hold: gets the workspace, and raises AssertionError.
        environment: Further variables.
    """

    name: str
    command: str
    changed: str = ""
    launch: str = ""
    after: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    needs: str | None = None
    check: Callable[[Path], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        arguments = shlex.split(f"{self.command} {self.changed}", comments=True)
        if self.launch:
            arguments[2:2] = shlex.split(self.launch)
        return arguments


@dataclass(frozen=True)
class Outcome:
    """What became of a step: "ok", "failed", or "skipped", why, and the seconds that it took."""

    state: str
    reason: str = ""
    seconds: float = 0.0


def run_steps(
    steps: Sequence[Step],
    work: Path,
    missing: Iterable[str] = (),
    jobs: int = 2,
    on_done: Callable[[Step, Outcome], None] = lambda *_: None,
) -> dict[str, Outcome]:
    """Run all steps in `work`, each when those before it are done; a step after one that did not succeed is skipped.

    Args:
        steps: In any order.
        work: The folder that commands run in; each leaves `logs/<name>.txt` there.
        missing: Requirements that are not installed.
        jobs: How many run at a time.
        on_done: Gets each step as it ends.
    """
    (work / "logs").mkdir(exist_ok=True)
    forks.preload("tests.rehearsal.preload")
    outcomes: dict[str, Outcome] = {}
    waiting, running = list(steps), {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for step in list(waiting):
                if unmet := next(
                    (name for name in step.after if name in outcomes and outcomes[name].state != "ok"), None
                ):
                    outcomes[step.name] = Outcome("skipped", f"after {unmet}")
                elif step.needs and any(line.startswith(step.needs) for line in missing):
                    outcomes[step.name] = Outcome("skipped", f"{step.needs} is not installed")
                elif all(name in outcomes for name in step.after):
                    if len(running) == jobs:
                        continue
                    running[pool.submit(_run, step, work)] = step
                    waiting.remove(step)
                    continue
                else:
                    continue
                waiting.remove(step)
                on_done(step, outcomes[step.name])
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    outcomes[step.name] = future.result()
                    on_done(step, outcomes[step.name])
    return {step.name: outcomes[step.name] for step in steps}


def _run(step: Step, work: Path) -> Outcome:
    log, began = work / "logs" / f"{step.name.replace('/', '-')}.txt", time.perf_counter()
    with log.open("w") as file:
        file.write(f"$ {shlex.join(step.arguments)}\n")
    environment = os.environ | dict(step.environment)
    if forked := _as_python(step.arguments):
        process = forks.start(forked, work, log, environment=environment)
        process.join()
        code = process.exitcode
    else:
        with log.open("a") as file:
            settings = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            code = subprocess.run(step.arguments, cwd=work, env=environment, **settings).returncode
    seconds = time.perf_counter() - began
    if code:
        return Outcome("failed", f"exit code {code}: {_last_words(log)}", seconds)
    if lost := next((name for name in step.makes if not (work / name).exists()), None):
        return Outcome("failed", f"{lost} is not there", seconds)
    try:
        if step.check:
            step.check(work)
    except AssertionError as error:
        return Outcome("failed", str(error), seconds)
    return Outcome("ok", "", seconds)


def _as_python(arguments: list[str]) -> list[str] | None:
    """What `python` gets in a command that comes to that; None of any other."""
    program, *rest = arguments
    if program == "neuroprompt":
        return ["-m", "neuroprompt.cli", *rest]
    if arguments[:2] == ["accelerate", "launch"]:
        launches = rest[1].startswith("--")  # its own options: else it would but start a Python
        return ["-m", "accelerate.commands.launch", *rest[1:]] if launches else rest[1:]
    if program == "torchrun":
        if "-m" in rest:  # processes that it starts for a file are forks, and those for a module are not
            at = rest.index("-m")
            rest[at : at + 2] = [find_spec(f"{rest[at + 1]}.__main__").origin]
        return ["-m", "torch.distributed.run", *rest]
    return rest if program == "python" else None


def _last_words(log: Path) -> str:
    """The last line that names an error; launchers go on to print a page after it."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\[rank\d\]: )?[\w.]*([Ee]rror|Exception|Stopped)\b", line)]
    return (named or lines)[-1][:200]

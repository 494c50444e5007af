"""Runs the steps: each a command as the documents give it, in a process of its own, two at a time.

A command that starts Python runs in a process that is forked from one which has imported the libraries already, so that
a step costs its work and not ten seconds of imports. What launches processes itself (`torchrun`, `accelerate`) is run
as it is.
"""

import multiprocessing
import os
import re
import runpy
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

PRELOADED = "tests.rehearsal.preload"


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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
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
                    running[pool.submit(_run, step, work, context)] = step
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


def _run(step: Step, work: Path, context) -> Outcome:
    log, began = work / "logs" / f"{step.name.replace('/', '-')}.txt", time.perf_counter()
    with log.open("w") as file:
        file.write(f"$ {shlex.join(step.arguments)}\n")
    if (forked := _as_python(step.arguments)) is None:
        with log.open("a") as file:
            code = subprocess.run(
                step.arguments,
                cwd=work,
                env=os.environ | dict(step.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            ).returncode
    else:
        process = context.Process(target=_in_fork, args=(forked, str(work), str(log), dict(step.environment)))
        process.start()
        process.join()
        code = process.exitcode
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
    """The script (or ``-m`` and a module) and its arguments, of a command that runs one; None of any other."""
    program, *rest = arguments
    if program == "neuroprompt":
        return ["-m", "neuroprompt.cli", *rest]
    if program == "python" or arguments[:2] == ["accelerate", "launch"]:
        rest = rest if program == "python" else rest[1:]
        return rest if rest[0] == "-m" or not rest[0].startswith("-") else None
    return None


def _in_fork(arguments: list[str], work: str, log: str, environment: dict[str, str]) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, number)
    sys.stdin = open(0)
    os.chdir(work)
    os.environ.update(environment)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, "")
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _last_words(log: Path) -> str:
    """The last line that names an error; launchers go on to print a page after it."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\[rank\d\]: )?[\w.]*([Ee]rror|Exception|Stopped)\b", line)]
    return (named or lines)[-1][:200]

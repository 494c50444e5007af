"""Python programs in processes that are forked from one which has imported the libraries (`tests.preload`): as
`python …`, without the ten seconds of imports.

A fork has arguments, a folder, an environment, output, an exit code and signals of its own, as any process. What it
has not is an import of its own: variables that a library reads as it is imported are those of the first call.
The processes that `torchrun` and `accelerate launch` start for a script are forks, too.
"""

import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKING_LAUNCHERS = {"PET_RUN_PATH": "1", "PET_START_METHOD": "fork"}  # options of torchrun, as it reads them

_context = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Import these in place of what was to be imported, before the first program is started."""
    _context.set_forkserver_preload(list(modules))


preload("tests.preload")


def start(
    arguments: Sequence[object],
    cwd: Path,
    output: Path,
    errors: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    given: Path = Path(os.devnull),
) -> BaseProcess:
    """Start a program; the returned process has `pid`, `join`, and then `exitcode`, negative for a signal.

    Args:
        arguments: Of `python`: a script, ``-m`` and a module, or ``-c`` and code; then the program's own.
        cwd: Its folder.
        output: File that it writes to; a FIFO or a terminal, too.
        errors: File for standard error; by default the same.
        environment: All of it, not what is added.
        given: File of its standard input.
    """
    files = [str(path.absolute()) for path in (given, output, errors or output)]
    process = _context.Process(target=_program, args=(list(map(str, arguments)), str(cwd), files, dict(environment)))
    process.start()
    return process


def run(
    arguments: Sequence[object], cwd: Path, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it says is in `stdout` and `stderr`."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = start(arguments, cwd, output, errors, environment)
        process.join()
        return subprocess.CompletedProcess(
            arguments, process.exitcode, *(path.read_text("utf-8", "replace") for path in (output, errors))
        )


def _program(arguments: list[str], cwd: str, files: list[str], environment: dict[str, str]) -> None:
    gc.freeze()  # else a collection copies every page that is shared
    gc.enable()
    for number, path in enumerate(files):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if deepspeed := sys.modules.get("deepspeed"):  # compiles it for a minute in each new environment, and need not
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    kind = arguments[0]
    sys.argv = arguments[1:] if kind in ("-m", "-c") else arguments
    sys.path.insert(0, "" if kind in ("-m", "-c") else str(Path(kind).parent))
    if kind == "-c":
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        if "-m" not in sys.argv:
            os.environ.update(_FORKING_LAUNCHERS)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")

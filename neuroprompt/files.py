"""Files that are written whole or not at all, and by one process at a time."""

import errno
import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from glob import escape
from itertools import combinations
from pathlib import Path
from typing import Any


class BusyError(OSError):
    """Another process is writing this output; the message says which."""


def write_file(path: str | Path, data: bytes) -> None:
    """Write a file beside and rename it, so that there is never half of one. Missing folders are made.

    Raises:
        OSError: It cannot be written; what was there before is there still. `filename` is `path`.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.{escape(socket.gethostname())}-*.partial"):
            import psutil

            if not psutil.pid_exists(int(left.stem.rpartition("-")[2])):  # by a process that was killed
                left.unlink(missing_ok=True)
        try:
            beside.write_bytes(data)
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_step(path: str | Path, record: Mapping[str, object]) -> None:
    """Add a record to a .jsonl file, in the place of those of its ``step`` and later ones.

    These are what a killed training did after its last checkpoint, and now does again.
    """
    path, kept = Path(path), []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            if json.loads(line)["step"] < record["step"]:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # half a line of a kill, or the nothing after the last
            continue
    write_file(path, b"".join(line + b"\n" for line in [*kept, json.dumps(record, ensure_ascii=False).encode()]))


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file.

    Raises:
        ValueError: It cannot be read, or holds no keys.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no keys, such as template and output")
    return values


def refuse_same_file(*paths: str | Path | None) -> None:
    """Stop before what is to be written replaces what is to be read.

    Args:
        paths: All that one command reads and writes; None and ``-`` are no files.

    Raises:
        ValueError: Two of them are one file, by whatever names: links, too.
    """
    files = [Path(path) for path in paths if path is not None and str(path) != "-"]
    for one, other in combinations(files, 2):
        there = one.exists() and other.exists()
        if one.samefile(other) if there else one.resolve() == other.resolve():
            named = str(one) if str(one) == str(other) else f"{one} and {other}"
            raise ValueError(f"{named} would be read and written as one file: give another output")


@contextmanager
def sole_writer(path: str | Path, *, inside: bool = False) -> Iterator[None]:
    """Let no other process write this output meanwhile. The process (its thread) that has it may take it again.

    The lock is the kernel's (`flock`, by way of filelock), on a hidden file that is gone afterwards. It ends with its
    process, however that ends: the file that a `kill -9` leaves locks nobody out.

    Args:
        path: A file or a folder, there or not.
        inside: `path` is a folder that is filled little by little. It is made, and the lock lies in it, since nothing
            else may be writable. Otherwise the lock lies beside: what it guards may appear or be replaced as a whole.

    Raises:
        BusyError: Another process has it: its number, machine and command, and since when.
        ValueError: The folder that `path` is to be in is not there.
        OSError: Nothing can be written there. `filename` is `path`.
    """
    path = Path(path)
    place = path / ".lock" if inside else path.with_name(f".{path.name}.lock")
    # One object for each place, so that the thread that has the lock can take it again.
    from filelock import FileLock, Timeout

    lock = FileLock(place.absolute(), timeout=0, is_singleton=True, fallback_to_soft=False, on_acquired=_sign)
    try:
        if inside:
            path.mkdir(parents=True, exist_ok=True)
        elif not place.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        lock.acquire()
    except Timeout:
        raise BusyError(f"{path} is being written by {_holder(place)}: wait for its end, or give another") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        warnings.warn(f"{path}: this disk has no file locks; see to it that nothing else writes there", stacklevel=3)
    try:
        yield
    finally:
        if lock.lock_counter <= 1:  # else it was taken again, and is still held
            place.unlink(
                missing_ok=True
            )  # while it is locked: whoever has just opened it finds it nameless, and it void
        lock.release()


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # network disks that were mounted without


def _sign(descriptor: int) -> None:
    """Write into the lock's file who has it."""
    command = " ".join(shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]).split())
    holder = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "command": command if len(command) <= 200 else command[:199] + "…",
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(place: Path) -> str:
    try:
        of = json.loads(place.read_bytes())
        return f"process {of['process']} on {of['machine']} ({of['command']}) since {of['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun or ended
        return "another process"

"""One writer for each output: between processes, after a kill, and on a disk without locks."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from neuroprompt.files import BusyError, refuse_same_file, sole_writer, write_file, write_step

KILLED_IN_WRITE = """
import os, signal, sys
from neuroprompt.files import write_file
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_file(sys.argv[1], b"new")
"""
HOLD = """
import sys, time
from neuroprompt.files import sole_writer
with sole_writer(sys.argv[1], inside=sys.argv[2] == "inside"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Start a process that holds a path; they are ended afterwards."""
    started = []

    def start(path, inside=False):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD, path, "inside" if inside else ""], stdout=subprocess.PIPE, text=True
            )
        )
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_kill_leaves_what_was_there_and_the_next_write_sweeps_up(tmp_path):
    path = tmp_path / "a[1].txt"
    write_file(path, b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_WRITE, path])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old" and len(os.listdir(tmp_path)) == 2
    beside = tmp_path / f".a[1].txt.{socket.gethostname()}-{os.getppid()}.partial"  # of one that lives
    beside.touch()
    write_file(path, b"newer")
    assert path.read_bytes() == b"newer" and sorted(os.listdir(tmp_path)) == [beside.name, path.name]


@pytest.mark.parametrize("inside", [False, True])
def test_a_second_writer_is_told_who_the_first_is(hold, tmp_path, inside):
    (tmp_path / "new").mkdir()
    path = tmp_path / "new" / "out"
    first = hold(path, inside)
    began = time.monotonic()
    with pytest.raises(BusyError, match=rf"out is being written by process {first.pid} on \S+ \(python.* since 20"):
        with sole_writer(path, inside=inside):
            pass
    assert time.monotonic() - began < 5
    with sole_writer(tmp_path / "new" / "other", inside=inside):
        pass


@pytest.mark.parametrize("inside", [False, True])
def test_a_kill_leaves_nothing_that_blocks(hold, tmp_path, inside):
    path = tmp_path / "out"
    killed = hold(path, inside)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    with sole_writer(path, inside=inside):
        pass
    assert os.listdir(path if inside else tmp_path) == []


def test_a_fork_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    """As worker processes of a data loader are: they may outlive a `kill -9` for a while."""
    forking = HOLD.replace("    print", "    import os\n    os.fork() or print")
    process = subprocess.Popen(
        [sys.executable, "-c", forking, tmp_path / "out", ""],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with sole_writer(tmp_path / "out"):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the fork
        process.stdout.close()


def test_the_holder_may_take_it_again_and_another_thread_may_not(tmp_path):
    errors = []

    def other():
        try:
            with sole_writer(tmp_path / "out"):
                pass
        except BusyError as error:
            errors.append(error)

    with sole_writer(tmp_path / "out"):
        with sole_writer(tmp_path / "out"):
            pass
        assert os.listdir(tmp_path) == [".out.lock"]
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(errors) == 1 and os.listdir(tmp_path) == []


def test_many_processes_never_hold_it_together(tmp_path):
    """The lock's file goes with each holder: a rival that has opened it before must not take that for the lock."""
    race = """
import os, sys, time
from neuroprompt.files import BusyError, sole_writer
folder, taken = sys.argv[1], 0
while taken < 150:
    try:
        with sole_writer(folder + "/out"):
            os.close(os.open(folder + "/inside", os.O_CREAT | os.O_EXCL))  # fails if another one is inside
            os.unlink(folder + "/inside")
            taken += 1
    except BusyError:
        pass
"""
    racers = [subprocess.Popen([sys.executable, "-c", race, tmp_path]) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert os.listdir(tmp_path) == []


def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="out: this disk has no file locks"), sole_writer(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written_the_output_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists") as caught:
        with sole_writer(tmp_path / "file", inside=True):
            pass
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(ValueError, match="there is no folder"), sole_writer(tmp_path / "none" / "out"):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_one_file_by_two_names_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("x")
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "hard.txt").hardlink_to("a.txt")
    (tmp_path / "sub").mkdir()
    for other in ("a.txt", "./a.txt", "sub/../a.txt", str(tmp_path / "a.txt"), "link.txt", "hard.txt"):
        with pytest.raises(ValueError, match="as one file"):
            refuse_same_file("a.txt", None, other)
    with pytest.raises(ValueError, match=r"new\.txt and sub/\.\./new\.txt would be"):
        refuse_same_file("new.txt", "sub/../new.txt")
    refuse_same_file("a.txt", "b.txt", "new.txt", "-", "-", None, None)


def test_a_step_that_is_done_again_is_there_once(tmp_path):
    path = tmp_path / "samples.jsonl"
    for step in (3, 6, 9):
        write_step(path, {"step": step, "text": "ä\u2028"})
    with path.open("a") as file:
        file.write('{"step": 12, "te')  # a kill
    write_step(path, {"step": 6, "text": "again"})  # the last checkpoint was that of step 3
    steps = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert steps == [{"step": 3, "text": "ä\u2028"}, {"step": 6, "text": "again"}]

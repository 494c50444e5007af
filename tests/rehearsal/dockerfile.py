"""The Dockerfile without an engine for containers: its commands in order, up to a server that is ready.

    sudo python -m tests.rehearsal.dockerfile --work FOLDER            # wants debootstrap, and dockerfile-parse of PyPI
    sudo python -m tests.rehearsal.dockerfile --work FOLDER --arg TORCH_INDEX=https://pypi.org/simple --bind /opt/wheels

A Debian with its Python stands in for the image that FROM names. What RUN says is run in a chroot, as the USER. Then
the entry point is process 1 of a root that is mounted read-only, but for /tmp and the user's home, as with `docker run
--read-only`. It is asked until the health check is content, rewrites a prompt, and gets SIGTERM.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.request import Request, urlopen

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
PORT, KEY = "18765", "a-key"


class Stage:
    """A root that instructions change."""

    def __init__(self, root: Path, work: Path, binds: list[str], arguments: dict[str, str]):
        self.root, self.work, self.binds, self.arguments = root, work, binds, arguments
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.folder, self.user = "/", "0"
        self.said: dict[str, str] = {}
        subprocess.run(["cp", "-a", work / "base", root], check=True)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")

    def do(self, instruction: str, value: str) -> None:
        match instruction:
            case "ARG":
                name, _, default = value.partition("=")
                self.environment[name] = self.arguments.get(name, default)
            case "ENV":
                for pair in shlex.split(value):
                    name, _, text = pair.partition("=")
                    self.environment[name] = re.sub(r"\$(\w+)", lambda found: self.environment[found[1]], text)
            case "WORKDIR":
                self.folder = value
                (self.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = value
            case "RUN":
                subprocess.run(self.command(["/bin/sh", "-c", value]), check=True)
            case "COPY":
                self._copy(shlex.split(value))
            case "HEALTHCHECK" | "ENTRYPOINT" | "CMD" | "EXPOSE":
                self.said[instruction] = value
            case _:
                raise SystemExit(f"{instruction}: not known here")

    def _copy(self, words: list[str]) -> None:
        source = self.work / "context"
        if words[0].startswith("--from="):
            source = self.work / words.pop(0).removeprefix("--from=")
        *names, target = words
        for name in names:
            place = self.root / (
                target.lstrip("/") if target.startswith("/") else f"{self.folder}/{target}".lstrip("/")
            )
            # links, where an engine shares layers: what is copied is not written again
            subprocess.run(["cp", "-al", source / name.lstrip("/"), place], check=True)

    def command(self, arguments: list[str], *, as_container: bool = False) -> list[str]:
        """A command line for the host that runs this one in the root."""
        mounts = [f"mount -o bind,ro {path} {self.root}{path}" for path in self.binds if not as_container]
        for path in self.binds:
            (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        if as_container:
            home = f"{self.root}{self.environment['HOME']}"
            mounts += [
                f"mount --bind {self.root} {self.root}",
                f"mount -o remount,ro,bind {self.root}",
                f"mount -t tmpfs tmpfs {self.root}/tmp",
                f"mount -t tmpfs -o uid={self.user},gid={self.user} tmpfs {home}",
            ]
        mounts.append(f"mount -t proc proc {self.root}/proc")
        inside = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), "/usr/bin/env", "-i"]
        inside += [f"--chdir={self.folder}", *(f"{name}={value}" for name, value in self.environment.items())]
        script = " && ".join([*mounts, f"exec {shlex.join([*inside, *arguments])}"])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="Folder for the roots; the Debian in it is kept.")
    parser.add_argument("--arg", action="append", default=[], help="A build argument, NAME=VALUE.")
    parser.add_argument("--bind", action="append", default=[], help="A folder of this machine that RUN reads, too.")
    given = parser.parse_args()
    work = given.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "base").is_dir():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", work / "base"], check=True
        )
    _fill_context(work / "context")
    stages: dict[str, Stage] = {}
    for step in DockerfileParser(fileobj=(ROOT / "Dockerfile").open("rb")).structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "COMMENT":
            continue
        print(f"{instruction} {value}", flush=True)
        if instruction == "FROM":
            name = value.partition(" AS ")[2] or "final"
            shutil.rmtree(work / name, ignore_errors=True)
            stages[name] = Stage(work / name, work, given.bind, dict(pair.split("=", 1) for pair in given.arg))
        else:
            stages[name].do(instruction, value)
    _serve(stages[name])


def _fill_context(context: Path) -> None:
    """What .dockerignore lets through: the names behind its exclamation marks, without Python's caches."""
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for name in re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        ignored = shutil.ignore_patterns("__pycache__")
        source = ROOT / name
        shutil.copytree(source, context / name, ignore=ignored) if source.is_dir() else shutil.copy(
            source, context / name
        )


def _serve(stage: Stage) -> None:
    stage.environment |= {"NEUROPROMPT_PORT": PORT, "NEUROPROMPT_API_KEY": KEY}
    stage.binds = []
    check = json.loads(stage.said["HEALTHCHECK"].partition("CMD ")[2])
    program = json.loads(stage.said["ENTRYPOINT"]) + json.loads(stage.said["CMD"])
    server = subprocess.Popen(stage.command(program, as_container=True))
    try:
        began = time.monotonic()
        while subprocess.run(stage.command(check), stderr=subprocess.DEVNULL).returncode:
            if server.poll() is not None or time.monotonic() - began > 600:
                raise SystemExit("the server was not ready in ten minutes")
            time.sleep(2)
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        asked = Request(f"http://127.0.0.1:{PORT}/v1/enhance", json.dumps({"prompts": "boy on a horse"}).encode())
        asked.add_header("Authorization", f"Bearer {KEY}")
        asked.add_header("Content-Type", "application/json")
        with urlopen(asked, timeout=120) as answer:
            print(json.load(answer)["results"][0][0]["text"])
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)  # to process 1 of the container
        began = time.monotonic()
        code = server.wait(60)
        print(f"ended with {code}, {time.monotonic() - began:.1f} s after SIGTERM")
        raise SystemExit(code)
    finally:
        server.kill()


if __name__ == "__main__":
    main()

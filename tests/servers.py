"""Real servers, started by the command line as a user would: one with all models for the whole session (`server`), and
others with other flags (`start`), whose front is there in a second whatever becomes of their models."""

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: Its address, without a slash at the end.
        key: The key that it wants; None where it wants none.
        log: The file of what it says.
        votes: The file of votes on it; None where it takes none.
    """

    url: str
    key: str | None
    process: subprocess.Popen
    log: Path
    votes: Path | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path, **settings):
        return self._ask("GET", path, settings)

    def post(self, path, body=None, **settings):
        return self._ask("POST", path, ({} if body is None else {"json": body}) | settings)

    def _ask(self, method, path, settings):
        headers = ({"Authorization": f"Bearer {self.key}"} if self.key else {}) | settings.pop("headers", {})
        return self.session.request(method, self.url + path, headers=headers, timeout=120, **settings)

    def metric(self, name, **labels):
        """The value of a metric; 0 where it is not there yet."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = 0.0
        for line in self.get("/metrics").text.splitlines():
            match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
            if match and wanted <= set(re.findall(r'\w+="[^"]*"', match[1] or "")):
                found += float(match[2])
        return found

    def workers(self, part):
        """The processes of a part."""
        return [child for child in psutil.Process(self.process.pid).children() if child.cmdline()[-1:] == [part]]

    def until(self, true, seconds=120):
        """Wait until this is so, and say what it was."""
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return value

    def ready(self, seconds=900):  # of which a machine that has nothing else to do takes twenty
        self.until(lambda: self.get("/readyz").status_code == 200, seconds)
        return self


@contextmanager
def run_server(*flags, key=None, command="serve", **environment):
    """A server with these flags, at any free port; it is stopped, and has left nothing, afterwards."""
    environment = os.environ | {"NEUROPROMPT_API_KEY": key or ""} | environment
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "neuroprompt.cli", command, "--port", "0", *flags],
            env={name: value for name, value in environment.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = Server("", key, process, Path(log.name))
        children = []
        try:
            found = server.until(lambda: re.search(r"serving on (http://\S+)", server.log.read_text()))
            server.url = found[1]
            server.until(lambda: server.get("/livez").ok)
            children = psutil.Process(process.pid).children(recursive=True)
            yield server
        finally:
            if process.poll() is None:
                children += psutil.Process(process.pid).children(recursive=True)
                process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
            _, left = psutil.wait_procs(children, 10)
            assert not left, f"{left} outlived the server"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """All parts, loaded: policy, the embedded generator and its rewards; it wants a key, and takes votes."""
    votes = tmp_path_factory.mktemp("server") / "votes.sqlite"
    with run_server("--reward-model", "embedded", key="a-key-for-tests", NEUROPROMPT_VOTES=str(votes)) as running:
        running.votes = votes
        yield running.ready()


@pytest.fixture
def start():
    """Start another: `with start("--rate-limit", "2") as other`. Its models load meanwhile: `other.ready()` waits."""
    return run_server

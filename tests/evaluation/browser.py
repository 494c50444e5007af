"""A headless Chromium that tests drive: the DevTools protocol through a pipe, so that no driver has to be installed."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-quic", "--disable-sync", "--disable-background-networking"),
    *("--disable-component-update", "--remote-debugging-pipe"),
)
# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
_LAUNCH = (
    "import os, sys; commands, answers = map(int, sys.argv[1:3]); os.dup2(commands, 3); os.dup2(answers, 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
_SECONDS = 60  # that an answer may take


def find_chromium() -> str | None:
    """The first Chromium that runs; Ubuntu has a script of this name that only says how to get one."""
    found = filter(None, map(shutil.which, _NAMES))
    return next(
        (path for path in found if not subprocess.run([path, "--version"], capture_output=True).returncode), None
    )


class Browser:
    """A browser with one page.

    Args:
        chromium: The program.
        profile: A folder of its own.

    Attributes:
        requests: Addresses that the page has asked for since it was opened.
        complaints: What it wrote to the console, what it threw, and what its security policy refused.
    """

    def __init__(self, chromium: str, profile: Path):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._count, self._rest, self._loaded, self._session = 0, b"", False, None
        (commands, self._commands), (self._answers, answers) = os.pipe(), os.pipe()
        # From 10 up, so that neither lies where the other goes.
        theirs = [fcntl(commands, F_DUPFD, 10), fcntl(answers, F_DUPFD, 10)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *map(str, theirs), chromium, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands, answers, *theirs):
            os.close(end)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **params: Any) -> dict:
        """The result of a command of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, page: Path, width: int = 1200, height: int = 800, scheme: str = "light") -> None:
        """Load a file into a window of this size, and wait until all of it is there."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=media)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.requests.clear()
        self.complaints.clear()
        self._loaded = False
        self.call("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._receive()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON types; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """A person's click into the middle of an element."""
        x, y = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)}); "
            "element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect(); "
            "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """A key that writes no letter, such as ArrowRight or Escape."""
        code = {"Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self) -> bytes:
        """The whole page, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _receive(self) -> dict:
        """The next message; an event is noted, too."""
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("the browser does not answer" if not ready else "the browser has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        event, params = message.get("method"), message.get("params", {})
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif event == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif event == "Page.loadEventFired":
            self._loaded = True
        return message

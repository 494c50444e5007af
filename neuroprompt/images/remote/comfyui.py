"""ComfyUI: a workflow file into which each prompt and seed is written, ``POST /prompt``, and a look at ``/history``."""

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from neuroprompt.images.config import RemoteConfig
from neuroprompt.images.remote.dialect import Model, Picture
from neuroprompt.wire import RemoteError, Server, Trouble


class Workflow:
    """A workflow with places for what changes from picture to picture.

    A place for ``prompt`` is a text that holds ``{prompt}``, or an input of a node that is titled so: ``prompt``,
    ``text``, ``value`` or ``string``, whichever it has; of one titled ``seed`` also ``noise_seed``. Likewise for the
    other `NAMES`.

    Args:
        path: What ComfyUI's "Export (API)" writes.

    Attributes:
        name: The file's, without its ending.
        digest: A hash of the workflow.
        names: What it has places for.
        open: Those that stand in texts: they must be filled, while what a title names has a value already.

    Raises:
        ValueError: There is no such file, it is no workflow of that form, or it has no place for a prompt.
    """

    NAMES = ("prompt", "negative", "seed", "steps", "guidance", "width", "height", "scheduler")

    def __init__(self, path: str):
        self.name = Path(path).stem
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: the workflow cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no workflow: it is no JSON ({error})") from error
        if isinstance(content, dict) and "nodes" in content:
            raise ValueError(f'{path} is a workflow as the editor saves it: write it with "Export (API)"')
        if not isinstance(content, dict) or not content or not all(map(_is_node, content.values())):
            raise ValueError(f'{path} is no workflow: it is not what "Export (API)" writes')
        self._nodes: dict[str, dict] = content
        self._titled = {(node, key): name for node, key, name in self._titles()}
        self.open = {name for text in self._texts() for name in _PLACE.findall(text)}
        self.names = self.open | set(self._titled.values())
        if "prompt" not in self.names:
            raise ValueError(f"{path} has no prompt node: title one 'prompt', or write {{prompt}} into its text")
        self.digest = blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def filled(self, **values: Any) -> dict[str, dict]:
        """The workflow with values in its places. What a value says is never read as a place."""
        filled = json.loads(json.dumps(self._nodes))
        for node, content in filled.items():
            for key, given in content["inputs"].items():
                name = self._titled.get((node, key))
                if name in values:
                    content["inputs"][key] = values[name]
                elif isinstance(given, str):
                    content["inputs"][key] = _fill(given, values)
        return filled

    def _texts(self) -> Iterator[str]:
        return (given for node in self._nodes.values() for given in node["inputs"].values() if isinstance(given, str))

    def _titles(self) -> Iterator[tuple[str, str, str]]:
        """Node, input and name of each place that a title makes."""
        for node, content in self._nodes.items():
            name = str(content.get("_meta", {}).get("title", "")).strip().lower()
            if name in self.NAMES:
                wanted = (name, f"noise_{name}", "text", "value", "string", "prompt")
                # A list is a link to another node's output.
                free = [key for key in wanted if not isinstance(content["inputs"].get(key, []), list)]
                yield from ((node, key, name) for key in free[:1])


class ComfyUI:
    """A ComfyUI server, drawing by a workflow that makes one picture."""

    title: ClassVar = "ComfyUI"
    connections: ClassVar = 1
    most = 1  # of a batch, all but the first have noise that no seed of their own makes

    def __init__(self, server: Server, config: RemoteConfig):
        if not config.workflow:
            raise RemoteError(f'{server.url} is ComfyUI: set workflow=FILE to what its "Export (API)" writes')
        self._server, self._config, self._client = server, config, uuid.uuid4().hex
        self._workflow = Workflow(config.workflow)

    @classmethod
    def found(cls, server: Server) -> bool:
        return "devices" in (server.find("/system_stats") or {})

    def model(self) -> Model:
        self._values(self._config)
        places = self._workflow.names
        identity = ("comfyui", self._workflow.digest)
        return Model(self._workflow.name, identity, "seed" in places, takes_negative="negative" in places)

    def draw(self, text: str, seeds: Sequence[int], config: RemoteConfig) -> list[Picture]:
        filled = self._workflow.filled(**self._values(config), prompt=text, seed=seeds[0])
        answer = self._server.post("/prompt", {"prompt": filled, "client_id": self._client})
        job = answer.get("prompt_id") if isinstance(answer, dict) else None
        if not isinstance(job, str):
            raise Trouble("it does not say what it calls the job (prompt_id)", lasting=True)
        return [Picture.of(self._server.read("/view", **self._made(self._finished(job))))]

    def _values(self, config: RemoteConfig) -> dict[str, Any]:
        """The settings by the workflow's names for them.

        Raises:
            RemoteError: One is given and has no place, or has a place and is not given.
        """
        width, height = config.size or (None, None)
        settings = {name: getattr(config, name) for name in ("negative", "steps", "guidance", "scheduler")}
        settings |= {"width": width, "height": height}
        values = {name: value for name, value in settings.items() if value is not None}
        if unread := next((name for name in values if name not in self._workflow.names), None):
            raise RemoteError(
                f"{unread} is {values[unread]!r}, and the workflow {self._workflow.name} has no place for it: leave it "
                f"out, or write {{{unread}}} into the workflow"
            )
        if "negative" in self._workflow.open:
            values.setdefault("negative", "")
        if missing := next((name for name in self._workflow.open if name not in (*values, "prompt", "seed")), None):
            wanted = "size" if missing in ("width", "height") else missing
            raise RemoteError(f"the workflow {self._workflow.name} has a {{{missing}}}: set {wanted}")
        return values

    def _finished(self, job: str) -> dict[str, Any]:
        """What ``/history`` says of a job, once it is there."""
        deadline, pause = time.monotonic() + self._server.timeout, 0.05
        while time.monotonic() < deadline:
            history = self._server.get(f"/history/{quote(job, safe='')}")
            entry = history.get(job) if isinstance(history, dict) else None
            if isinstance(entry, dict):
                return entry
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
        with suppress(RemoteError, Trouble):  # nobody waits for it any more
            self._server.post("/queue", {"delete": [job]})
        raise Trouble(f"no picture within {self._server.timeout:g} s", lasting=True)

    def _made(self, entry: dict[str, Any]) -> dict[str, str]:
        """The one picture of a job, as ``/view`` asks for it: of what is saved, or else of what is shown."""
        status = entry.get("status") or {}
        if status.get("status_str") == "error":
            messages = dict(status.get("messages", ()))
            said = str(messages.get("execution_error", {}).get("exception_message", ""))
            raise Trouble(f"the workflow failed: {' '.join(said.split())[:200]}")
        files = [file for output in (entry.get("outputs") or {}).values() for file in output.get("images", ())]
        files = [file for file in files if file.get("type") == "output"] or files
        if len(files) != 1:
            raise Trouble(f"the workflow makes {len(files)} pictures: one is wanted", lasting=True)
        return {name: str(files[0].get(name, "")) for name in ("filename", "subfolder", "type")}


_PLACE = re.compile(r"\{(" + "|".join(Workflow.NAMES) + r")\}")


def _is_node(content: Any) -> bool:
    parts = (content.get("inputs"), content.get("_meta", {})) if isinstance(content, dict) else (None,)
    return all(isinstance(part, dict) for part in parts) and "class_type" in content


def _fill(text: str, values: Mapping[str, Any]) -> Any:
    """A text with values in its places; where it is nothing but a place, the value itself, such as a number."""
    if whole := _PLACE.fullmatch(text):
        return values.get(whole[1], text)
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), text)

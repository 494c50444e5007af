"""The state of a search on disk: what was proposed and what was drawn, and nothing else.

A search is a deterministic function of its settings, of the proposals and of the pictures' scores. So the journal keeps
these two alone, and a killed search is taken up by running it again with the answers that are known: it comes to the
same result, number for number, as one that nothing disturbed.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from neuroprompt.files import sole_writer, write_file

_EVERY = 10.0  # seconds between two writings within a round; a round's end is always written


class Journal:
    """Proposals and pictures by prompt, in a JSON file that is replaced as a whole, or in memory.

    It is a context manager: nothing else may write the file meanwhile.

    Args:
        path: The file; None for memory.
        settings: What the search depends on, as JSON types. A file of another search is refused.

    Attributes:
        proposals: By prompt, the answers to its wishes, in order: the policy's lists of modifiers and the chat model's.
        pictures: By prompt, (text, seed) to the raw scores of the components and whether it was flagged.
        result: What came of it, for whoever reads the file; a search that is taken up comes to it anew.

    Raises:
        ValueError: (When the context is entered) the file is no journal, or one of a search with other settings.
        BusyError: Another search writes it (likewise).
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, object]):
        self.path = Path(path) if path else None
        self.settings = json.loads(json.dumps(settings))
        self.proposals: dict[str, list[list[list[list[str]]]]] = {}
        self.pictures: dict[str, dict[tuple[str, int], tuple[list[float], bool]]] = {}
        self.result: Mapping[str, object] | None = None
        self._written = time.monotonic()

    def __enter__(self) -> "Journal":
        with ExitStack() as stack:
            if self.path:
                stack.enter_context(sole_writer(self.path))
                if self.path.exists():
                    self._read()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def save(self, due: bool = True) -> None:
        """Write the file; with `due` false only where the last time is long ago."""
        if not self.path or not (due or time.monotonic() - self._written > _EVERY):
            return
        content = {
            **({"result": self.result} if self.result else {}),
            "settings": self.settings,
            "proposals": self.proposals,
            "pictures": {
                prompt: [[text, seed, *known] for (text, seed), known in rows.items()]
                for prompt, rows in self.pictures.items()
            },
        }
        write_file(self.path, json.dumps(content).encode())  # ASCII: a prompt may hold half of a surrogate pair
        self._written = time.monotonic()

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text("utf-8"))
            settings, proposals, pictures = (content[k] for k in ("settings", "proposals", "pictures"))
            pictures = {
                prompt: {(text, seed): (scores, flagged) for text, seed, scores, flagged in rows}
                for prompt, rows in pictures.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is no state of a search: give another file, or remove it") from error
        if settings != self.settings:
            other = [name for name in self.settings if settings.get(name) != self.settings[name]]
            raise ValueError(
                f"{self.path} belongs to a search with other {' and '.join(other) or 'settings'}: "
                "give another file, or remove it"
            )
        self.proposals, self.pictures = proposals, pictures


def missing(known: Mapping[tuple[str, int], object], wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The pictures that are not known yet, each once, in order."""
    return [picture for picture in dict.fromkeys(wanted) if picture not in known]

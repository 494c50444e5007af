"""The comparison as one HTML page that needs nothing else, and its cells for pages that have more on them."""

import io
from typing import TYPE_CHECKING

from PIL import Image

from neuroprompt.pages.grid.contents import (
    MISSING,
    SMALL,
    WITHHELD,
    Cell,
    Grid,
    Picture,
    across,
    caption,
    cut_pieces,
    difference_to,
    fit,
    legend,
    resize,
    score_formats,
    size_of,
    to_pil,
)
from neuroprompt.pages.page import data_uri, render
from neuroprompt.pages.tables import format_number

if TYPE_CHECKING:
    from torch import Tensor


def grid_html(grid: Grid) -> str:
    """The comparison as one page that needs nothing else: it opens from a disk, without a server or a network.

    A click enlarges a picture; the arrow keys then go through the methods of one seed, and through the prompts. All
    numbers stand in the page as JSON, too (`<script type="application/json" id="neuroprompt">`).
    """
    return render(
        "grid.html",
        title=grid.title or "Comparison",
        heading=grid.title,
        columns=grid.columns,
        heads=grid.column_titles if any(grid.column_titles or ()) else None,
        rows=grid_figures(grid),
        notes=[note for note in (legend(grid), grid.footer) if note],
        record=grid.to_dict(),
    )


def grid_figures(grid: Grid) -> list[dict]:
    """The rows as the macro `figure` of ``macros.html`` reads their cells: all texts, and the pictures as addresses."""
    formats = score_formats(grid)
    heads = grid.column_titles or [""] * grid.columns
    titles = grid.row_titles or [""] * len(grid.rows)
    return [
        {
            "title": title,
            "cells": [
                _figure(cell, row[0] if j else None, formats, head) | {"row": i, "column": j}
                for j, (cell, head) in enumerate(zip(row, heads, strict=True))
            ],
        }
        for i, (title, row) in enumerate(zip(titles, grid.rows, strict=True))
    ]


def image_uri(image: "Image.Image | Tensor") -> str:
    """A picture as an address that holds it: a small one without loss, one that is transparent as PNG; what no screen
    shows at once is shrunk to 2048 pixels."""
    picture = to_pil(image)
    transparent = picture.has_transparency_data
    width, height = fit(picture.size, 2048, 2048)
    picture = picture.convert("RGBA" if transparent else "RGB")
    if width < picture.width:
        picture = resize(picture, width, height)
    file = io.BytesIO()
    if transparent:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "WEBP", lossless=max(picture.size) < SMALL, quality=90)
    return data_uri(file.getvalue(), f"image/{'png' if transparent else 'webp'}")


def _figure(cell: Cell | None, first: Cell | None, formats: dict[str, str], title: str) -> dict:
    if cell is None:
        return {"title": "", "across": 1, "pictures": [{"note": "nothing to show"}], "scores": [], "pieces": []}
    pictures = cell.pictures or [None]
    return {
        "title": title,
        "across": across(len(pictures)),
        "pictures": [_picture(picture, f"{title}: {cell.text}") for picture in pictures],
        "scores": [
            (name, format_number(cell.scores.get(name), form), difference_to(cell, first, name, form))
            for name, form in formats.items()
        ],
        "pieces": cut_pieces(*caption(cell)) if cell.text else [],
    }


def _picture(picture: Picture | None, alt: str) -> dict:
    if picture is None or picture.flagged:
        return {"note": WITHHELD if picture else MISSING}
    width, height = size_of(picture.image)
    alt += "" if picture.seed is None else f", seed {picture.seed}"
    return {"note": "", "uri": image_uri(picture.image), "alt": alt, "width": width, "height": height}

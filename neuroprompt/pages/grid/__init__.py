"""The comparison picture: a row for each prompt, a column for each method, under every picture its prompt and scores.

Plain data in (`contents.Grid`; `cells.draw_cells` has its rows drawn and scored), and out an image file with all of it
as metadata (`image`), or one HTML file that needs nothing else (`page`). In every prompt the user's own words are bold,
so that one sees what a method added; scores are set against the first column's, which were drawn with the same seeds.
"""

import math
from pathlib import Path

from neuroprompt.files import write_file
from neuroprompt.image_files import SUFFIXES, load_images, read_metadata, save_image
from neuroprompt.pages.grid.cells import draw_cells
from neuroprompt.pages.grid.contents import Cell, Grid, Picture
from neuroprompt.pages.grid.image import draw_grid, layout_grid
from neuroprompt.pages.grid.page import grid_figures, grid_html

__all__ = ["HTML_SUFFIXES", "Cell", "Grid", "Picture", "draw_cells", "draw_grid", "grid_figures", "grid_html"]
__all__ += ["layout_grid", "read_grid", "save_grid"]

HTML_SUFFIXES = (".html", ".htm")


def save_grid(grid: Grid, path: str | Path, cell_size: int | None = None) -> None:
    """Write the comparison as an image, or as one .html page; the ending says which.

    The file appears when it is whole. `read_grid` reads an image again.

    Args:
        path: Ends in .png, .jpg, .jpeg, .webp, .html or .htm. Missing folders are made.
        cell_size: The width of a picture, in pixels (see `draw_grid`); an .html page keeps the pictures' own size.

    Raises:
        ValueError: Another ending, or more pixels or metadata than the format can hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES + HTML_SUFFIXES:
        raise ValueError(f"{path}: a grid is written as {', '.join(SUFFIXES + HTML_SUFFIXES)}")
    if suffix in HTML_SUFFIXES:
        write_file(path, grid_html(grid).encode("utf-8"))
        return
    record = grid.to_dict()
    for placed in layout_grid(grid, cell_size).pictures:
        if placed.picture is not None:
            record["rows"][placed.row]["cells"][placed.column]["pictures"][placed.index]["box"] = placed.box
    save_image(draw_grid(grid, cell_size), path, record)


def read_grid(path: str | Path) -> Grid | None:
    """The comparison that an image shows, with the pictures as they are in it; None where it does not say where.

    Raises:
        ValueError: There is no picture that can be read.
    """
    record = read_metadata(path).get("neuroprompt", {})
    (sheet,) = load_images([path])

    def cell(made: dict | None) -> Cell | None:
        return made and Cell(made["text"], [picture(one) for one in made["pictures"]], made["original"])

    def picture(made: dict | None) -> Picture | None:
        if made is None:
            return None
        scores = {name: math.nan if value is None else value for name, value in made["scores"].items()}
        return Picture(sheet.crop(made["box"]), made["seed"], scores, made["flagged"])

    try:
        rows = [[cell(made) for made in row["cells"]] for row in record["rows"]]
    except KeyError:  # it is no grid, or one of an earlier version
        return None
    titles = [row["title"] for row in record["rows"]]
    return Grid(rows, record["columns"], titles, record["title"], record["footer"], record["metadata"])

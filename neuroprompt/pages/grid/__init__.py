"""The comparison picture: a row for each prompt, a column for each method, under every picture its prompt and scores.

Plain data in (`contents.Grid`), and out an image file with all of it as metadata (`image`), or one HTML file that needs
nothing else (`page`). No model is touched here. In every prompt the user's own words are bold, so that one sees what a
method added; scores are set against the first column's, which were drawn with the same seeds.
"""

from pathlib import Path

from neuroprompt.files import write_file
from neuroprompt.image_files import SUFFIXES, save_image
from neuroprompt.pages.grid.contents import Cell, Grid, Picture
from neuroprompt.pages.grid.image import draw_grid, layout_grid
from neuroprompt.pages.grid.page import grid_html

__all__ = ["HTML_SUFFIXES", "Cell", "Grid", "Picture", "draw_grid", "grid_html", "layout_grid", "save_grid"]

HTML_SUFFIXES = (".html", ".htm")


def save_grid(grid: Grid, path: str | Path, cell_size: int | None = None) -> None:
    """Write the comparison as an image, or as one .html page; the ending says which.

    The file appears when it is whole. `image_files.read_metadata` gives `grid.to_dict()` back from an image.

    Args:
        path: Ends in .png, .jpg, .jpeg, .webp, .html or .htm. Missing folders are made.
        cell_size: Of a picture, in pixels (see `draw_grid`); an .html page keeps the pictures' own size.

    Raises:
        ValueError: Another ending, or more pixels or metadata than the format can hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES + HTML_SUFFIXES:
        raise ValueError(f"{path}: a grid is written as {', '.join(SUFFIXES + HTML_SUFFIXES)}")
    if suffix in SUFFIXES:
        save_image(draw_grid(grid, cell_size), path, grid.to_dict())
        return
    write_file(path, grid_html(grid).encode("utf-8"))

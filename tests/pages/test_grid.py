import json
import math
import os
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from neuroprompt.image_files import read_metadata, save_image
from neuroprompt.pages.grid import Cell, Grid, Picture, draw_grid, grid_html, layout_grid, read_grid, save_grid
from neuroprompt.pages.grid.contents import size_of, to_pil
from neuroprompt.pages.grid.text import Span, baseline, draw_span, line_height_of, text_width

COLOURS = [(200, 30, 90), (20, 120, 220), (250, 180, 20), (40, 160, 60), (130, 60, 200), (90, 90, 10)]


def solid(colour, width=64, height=64):
    return Image.new("RGB", (width, height), colour)


def small_grid(**arguments):
    rows = [
        [
            Cell(p, [Picture(solid(COLOURS[0]), 0, {"pickscore": 20.0, "clip": 0.25})], p),
            Cell(
                f"{p}, highly detailed, sharp focus",
                [Picture(solid(COLOURS[1]), 0, {"pickscore": 21.5, "clip": 0.2})],
                p,
            ),
        ]
        for p in ("boy on a horse", "a castle")
    ]
    titles = {"column_titles": ["plain", "enhanced"], "row_titles": ["boy on a horse", "a castle"], "title": "Before"}
    return Grid(rows, **titles | {"footer": "seed 0", "metadata": {"generator": "embedded"}} | arguments)


def overlap(a, b):
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def assert_sound(grid, layout):
    """No box over another or out of the image, no line longer than its box, no two words over one another."""
    empty = {p.box for p in layout.pictures if p.picture is None or p.picture.flagged}
    boxes = [p.box for p in layout.pictures] + [t.box for t in layout.texts] + list(layout.rules)
    for box in boxes:
        assert 0 <= box.left < box.right <= layout.width and 0 <= box.top < box.bottom <= layout.height
    boxes.sort()
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            if overlap(a, b):  # the note in the place of a picture
                inside = b if a in empty else a
                outside = a if a in empty else b
                assert outside in empty and inside not in empty
                assert outside.left <= inside.left and inside.right <= outside.right
                assert outside.top <= inside.top and inside.bottom <= outside.bottom
    for text in layout.texts:
        assert len(text.lines) * text.line_height == text.box.height
        for line in text.lines:
            end = 0.0
            for span in line:
                assert span.x >= end - 0.01
                end = span.x + text_width(span.text, span.bold, text.size)
            assert end <= text.box.width + 0.01
    placed = {(p.row, p.column, p.index): p.picture for p in layout.pictures}
    for i, row in enumerate(grid.rows):
        for j, cell in enumerate(row):
            for k, picture in enumerate((cell and cell.pictures) or [None]):
                assert placed.pop((i, j, k)) is picture
    assert not placed


def words(layout):
    return [" ".join(span.text for line in text.lines for span in line) for text in layout.texts]


prompts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["a castle", "highly detailed", "日本の城", "🏯", "x" * 90, "Ünïcödé"]), max_size=40).map(
        ", ".join
    ),
)
pictures = st.builds(
    Picture,
    st.builds(solid, st.sampled_from(COLOURS), st.sampled_from([1, 7, 64, 300]), st.sampled_from([1, 9, 64, 2000])),
    st.none() | st.integers(0, 2**63),
    st.dictionaries(
        st.sampled_from(["clip", "pick score", "a name that is longer than most"]), st.floats(), max_size=3
    ),
    st.booleans(),
)


@st.composite
def grids(draw):
    columns = draw(st.integers(1, 5))
    cells = st.none() | st.builds(Cell, prompts, st.lists(st.none() | pictures, max_size=5), prompts)
    rows = draw(st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=1, max_size=3))
    titles = [draw(st.none() | st.lists(prompts, min_size=n, max_size=n)) for n in (columns, len(rows))]
    return Grid(rows, *titles, title=draw(prompts), footer=draw(prompts))


@settings(max_examples=60)
@given(grids(), st.none() | st.integers(16, 700))
def test_nothing_lies_over_anything_else(grid, cell_size):
    assert_sound(grid, layout_grid(grid, cell_size))


@pytest.mark.parametrize("score", [2.415e44, -1.797e308, 1.797e308, -1e-300])
def test_enormous_numbers_fit(score):
    cells = [Cell("", [Picture(solid(COLOURS[0], 1, 1), None, {"clip": s})], "") for s in (-score / 2, score / 2, 0.0)]
    grid = Grid([cells])
    assert_sound(grid, layout_grid(grid, 16))


@settings(max_examples=8)
@given(grids())
def test_whatever_is_in_it_can_be_drawn_and_written(grid):
    layout = layout_grid(grid, 48)
    assert draw_grid(grid, 48).size == (layout.width, layout.height)
    assert "</html>" in grid_html(grid)
    assert json.loads(json.dumps(grid.to_dict(), allow_nan=False)) == grid.to_dict()


@pytest.mark.parametrize("cell_size", [None, 64, 100, 256])
def test_pixels_are_where_the_layout_says(cell_size):
    generator = random.Random(0)
    rows = [
        [
            Cell("a, b" * j, [Picture(solid(COLOURS[i * 3 + j], generator.randint(30, 90), 64), k) for k in range(2)])
            for j in range(3)
        ]
        for i in range(2)
    ]
    rows[1][2] = None
    grid = Grid(rows, ["a", "b", "c"], ["first", "second"], "Title", "footer")
    layout = layout_grid(grid, cell_size)
    pixels = np.asarray(draw_grid(grid, cell_size))
    assert pixels.shape == (layout.height, layout.width, 3)
    free = np.ones(pixels.shape[:2], dtype=bool)
    for placed in layout.pictures:
        box = placed.box
        inside = pixels[box.top : box.bottom, box.left : box.right]
        if placed.picture:
            assert (inside == COLOURS[placed.row * 3 + placed.column]).all()
        free[box.top - 1 : box.bottom + 1, box.left - 1 : box.right + 1] = False
    for box in [*(t.box for t in layout.texts), *layout.rules]:
        free[box.top : box.bottom, box.left : box.right] = False
    assert (pixels[free] == 255).all()
    for text in layout.texts:  # and every text has ink
        box = text.box
        assert pixels[box.top : box.bottom, box.left : box.right].min() < 160


@pytest.mark.parametrize(
    ("size", "shown"),
    [((64, 64), (256, 256)), ((100, 100), (300, 300)), ((300, 200), (300, 200)), ((2000, 1000), (384, 192))]
    + [((1, 1), (256, 256)), ((1, 2000), (1, 512)), ((2000, 1), (384, 1))],
)
def test_small_pictures_grow_and_large_ones_shrink_in_their_shape(size, shown):
    box = layout_grid(Grid([[Cell("a", [Picture(solid(COLOURS[0], *size))])]])).pictures[0].box
    assert (box.width, box.height) == shown  # a cell is at most twice as high as wide


def test_tensors_and_pictures_are_drawn_alike():
    image = torch.rand(3, 20, 30)
    as_picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    drawn = [draw_grid(Grid([[Cell("a", [Picture(i)])]]), 30) for i in (image, as_picture, image.bfloat16().float())]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert np.abs(np.asarray(drawn[0]).astype(int) - np.asarray(drawn[2])).max() <= 1
    box = layout_grid(Grid([[Cell("a", [Picture(image)])]]), 30).pictures[0].box
    assert np.array_equal(np.asarray(drawn[0])[box.top : box.bottom, box.left : box.right], np.asarray(as_picture))
    broken = torch.full((3, 4, 4), float("nan"))
    draw_grid(Grid([[Cell("a", [Picture(broken)])]]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_pictures_of_any_mode(mode):
    image = solid((10, 200, 30)).convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8))
    grid = Grid([[Cell("a", [Picture(image)])]])
    draw_grid(grid)
    assert "data:image/" in grid_html(grid)


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    grid = Grid([[Cell("a", [Picture(image)])]])
    box = layout_grid(grid).pictures[0].box
    assert draw_grid(grid).getpixel((box.left + 5, box.top + 5)) == (255, 255, 255)
    assert "data:image/png" in grid_html(grid)
    assert "data:image/webp" in grid_html(small_grid())


def test_the_users_words_are_bold():
    def bold(prompt, original):
        layout = layout_grid(Grid([[Cell(prompt, [None], original)]]))
        return "".join(span.text + " " for text in layout.texts for line in text.lines for span in line if span.bold)

    assert bold("boy on a horse, by artgerm, a horse", "boy on a horse") == "boy on a horse "
    assert bold("A weathered castle on a hill", "castle, hill") == "castle hill "
    assert bold("anything", "") == ""
    assert re.findall("<b>(.*?)</b>", grid_html(small_grid())) == ["boy on a horse"] * 2 + ["a castle"] * 2


def test_a_negative_prompt_stands_below_its_own_and_in_the_file():
    grid = Grid([[Cell("a cat", [None], "a cat"), Cell("a cat, 8k", [None], "a cat", "cat ears")]])
    shown = ["".join(f"{s.text} " for line in text.lines for s in line) for text in layout_grid(grid).texts]
    assert "a cat " in shown and "a cat , 8k Negative prompt: cat ears " in shown
    assert re.findall("<b>(.*?)</b>", grid_html(grid)) == ["a cat"] * 2
    assert [cell.get("negative") for cell in grid.to_dict()["rows"][0]["cells"]] == [None, "cat ears"]


@pytest.mark.parametrize("length", [20, 40, 200, 2000])
def test_a_long_prompt_ends_at_a_word(length):
    prompt = "a castle, " + ", ".join(f"modifier{i} of{i} many{i}" for i in range(length))
    (caption,) = (t for t in layout_grid(Grid([[Cell(prompt, [Picture(solid(COLOURS[0]))])]])).texts if t.lines)
    shown = " ".join(span.text for line in caption.lines for span in line)
    assert shown.endswith("…") and len(caption.lines) == 8
    kept = shown.removesuffix("…").rstrip(" ")
    assert prompt.startswith(kept) and not prompt[len(kept)].isalnum()
    assert f"many{length - 1}" in grid_html(Grid([[Cell(prompt, [None])]]))  # the page shows all of it


def test_a_long_name_is_broken_at_its_punctuation():
    title = "policy:runs/ppo/checkpoint-1200+constraints"
    (head,) = layout_grid(Grid([[Cell("", [None])]], [title])).texts[:1]
    assert ["".join(span.text for span in line) for line in head.lines] == ["policy:runs/ppo/checkpoint-", title[27:]]


def test_a_prompt_of_a_million_characters_is_no_matter():
    layout_grid(Grid([[Cell("x" * 10**6, [None], "y" * 10**6)]]))


def test_differences_have_sign_and_arrow():
    def cell(**scores):
        return Cell("a", [Picture(solid(COLOURS[0]), scores=scores)])

    row = [
        cell(pick=20.0, clip=0.25, big=12345.6),
        cell(pick=21.26, clip=0.2504, big=12340.0),
        cell(pick=19.994, clip=0.2, other=1.0),
        cell(pick=float("nan")),
    ]
    found = [w for w in words(layout_grid(Grid([row]))) if "pick" in w]
    assert found[0].split() == "pick 20.00 clip 0.250 big 12346 other –".split()
    assert found[1].split() == "pick 21.26 ▲ +1.26 clip 0.250 ±0.000 big 12340 ▼ −6 other –".split()
    assert found[2].split() == "pick 19.99 ▼ −0.01 clip 0.200 ▼ −0.050 big – other 1.00".split()
    assert found[3].split() == "pick – clip – big – other –".split()
    page = grid_html(Grid([row]))
    assert '<td>21.26</td><td><span class="better">▲ +1.26</span></td>' in page
    assert '<td>0.250</td><td><span class="same">±0.000</span></td>' in page


def test_a_cells_score_is_the_mean_of_its_seeds():
    scores = ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": float("inf")}, {"a": 4.5})
    cell = Cell("p", [*(Picture(solid(COLOURS[0]), scores=s) for s in scores), None])
    assert cell.scores == {"a": 2.5, "b": 2.0}
    enormous = Cell("x", [Picture(solid("red", 1, 1), None, {"a": value}) for value in (1.5e308, 1.7e308)])
    assert enormous.scores == {"a": 1.6e308}
    assert any("means over 4 seeds" in w for w in words(layout_grid(Grid([[cell]]))))


def test_a_seed_stands_at_one_place_in_all_cells():
    full = Cell("p", [Picture(solid(COLOURS[k]), k) for k in range(4)])
    holes = Cell("p", [full.pictures[0], None, Picture(solid(COLOURS[2]), 2, flagged=True)])
    layout = layout_grid(Grid([[full, holes]]))
    boxes = {(p.column, p.index): p.box for p in layout.pictures}
    shift = boxes[1, 0].left - boxes[0, 0].left
    for k in range(3):
        assert boxes[1, k] == boxes[0, k]._replace(left=boxes[0, k].left + shift, right=boxes[0, k].right + shift)
    assert boxes[0, 2].left == boxes[0, 0].left and boxes[0, 2].top > boxes[0, 0].bottom  # two by two
    assert boxes[0, 1].top == boxes[0, 0].top and boxes[0, 1].left > boxes[0, 0].right
    assert {"missing", "withheld by the safety checker"} <= set(words(layout))


def test_nothing_to_show_is_said():
    grid = Grid([[Cell("a", [Picture(solid(COLOURS[0]))]), None], [None, None]])
    assert words(layout_grid(grid)).count("nothing to show") == 3
    assert grid_html(grid).count("nothing to show") == 3


def test_a_withheld_picture_is_not_shown():
    grid = Grid([[Cell("a", [Picture(solid((1, 2, 3)), flagged=True)])]])
    assert not (np.asarray(draw_grid(grid)) == (1, 2, 3)).all(-1).any()
    assert "<img src" not in grid_html(grid)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_files_have_everything_in_them(tmp_path, suffix):
    grid = small_grid()
    path = tmp_path / f"grid{suffix}"
    path.write_bytes(b"an older one")
    save_grid(grid, path, cell_size=64)
    drawn = draw_grid(grid, 64)
    with Image.open(path) as image:
        assert image.size == drawn.size
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(drawn))
    assert difference.mean() < (2 if suffix in (".jpg", ".jpeg") else 1e-9)
    record = read_metadata(path)["neuroprompt"]
    boxes = [p.pop("box") for row in record["rows"] for cell in row["cells"] for p in cell["pictures"]]
    assert boxes == [list(placed.box) for placed in layout_grid(grid, 64).pictures]
    assert record == grid.to_dict()
    assert record["rows"][1]["cells"][1]["text"] == "a castle, highly detailed, sharp focus"
    assert record["rows"][0]["cells"][0]["pictures"] == [
        {"seed": 0, "scores": {"pickscore": 20.0, "clip": 0.25}, "flagged": False}
    ]
    assert record["metadata"] == {"generator": "embedded"}
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_grid_is_read_from_its_file(tmp_path, suffix):
    cell = Cell("a castle, 8k", [Picture(solid(COLOURS[k]), k, {"clip": 0.5 + k}, k == 2) for k in range(3)] + [None])
    unscored = Cell("a castle", [Picture(solid(COLOURS[3], 300, 50), None, {"clip": math.nan})], "a castle")
    grid = Grid([[unscored, cell], [None, unscored]], ["plain", "ours"], ["one", "two"], "title", "end", {"a": [1]})
    save_grid(grid, tmp_path / f"grid{suffix}")
    read = read_grid(tmp_path / f"grid{suffix}")
    assert json.dumps(read.to_dict()) == json.dumps(grid.to_dict())
    for placed, again in zip(layout_grid(grid).pictures, layout_grid(read).pictures, strict=True):
        if again.picture and not again.picture.flagged:
            assert size_of(again.picture.image) == (placed.box.width, placed.box.height)
            colours = [np.asarray(to_pil(p.picture.image)).reshape(-1, 3).mean(0) for p in (placed, again)]
            assert np.abs(colours[0] - colours[1]).max() < 3


def test_files_of_an_earlier_form_are_no_grid_and_are_read(tmp_path):
    """They say `prompt` for a cell's text, and nothing about where a picture is."""
    record = small_grid().to_dict()
    for row in record["rows"]:
        for cell in row["cells"]:
            cell["prompt"] = cell.pop("text")
    for metadata in (record, {"kind": "other"}, None):
        save_image(solid(COLOURS[0]), tmp_path / "old.png", metadata)
        assert read_grid(tmp_path / "old.png") is None
    with pytest.raises(ValueError, match="there is no such file"):
        read_grid(tmp_path / "none.png")


class _Page(HTMLParser):
    """Elements with attributes, and the text of each."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(len(self.elements) - 1)
        self.texts.append("")

    def handle_endtag(self, tag):
        while self.elements[self.open.pop()][0] != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] += data

    def of(self, tag):
        return [(a, t) for (name, a), t in zip(self.elements, self.texts, strict=True) if name == tag]


def test_a_page_needs_nothing_else_and_runs_nothing_foreign(tmp_path):
    nasty = '</script><script>alert("1")</script><img src=x onerror=alert(2)> & </script x {{SCRIPT}} " \' </b> \u2028'
    rows = [[Cell(nasty, [Picture(solid(COLOURS[0]), 1, {nasty: 1.0})], nasty), Cell(nasty, [None])]]
    grid = Grid(rows, [nasty, "b"], [nasty], nasty, nasty, {"note": nasty})
    save_grid(grid, tmp_path / "new" / "grid.html")
    source = (tmp_path / "new" / "grid.html").read_text("utf-8")
    page = _Page(source)
    scripts = page.of("script")
    assert len(scripts) == 2 and scripts[0][0] == {"type": "application/json", "id": "neuroprompt"}
    assert json.loads(scripts[0][1]) == grid.to_dict()
    assert "alert" not in scripts[1][1] and not any("onerror" in a for _, a in page.elements)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in source and "@import" not in source
    spoken = nasty.replace("\u2028", " ")
    assert [t for _, t in page.of("h1")] == [t for _, t in page.of("h2")] == [spoken]
    assert page.of("b") == [({}, spoken)]
    assert page.of("img")[0][0]["alt"] == f"{spoken}: {spoken}, seed 1"


def test_a_page_shrinks_what_no_screen_shows():
    source = grid_html(Grid([[Cell("a", [Picture(solid(COLOURS[0], 5000, 100))])]]))
    assert len(source) < 40_000


def test_what_is_wrong_is_one_line(tmp_path):
    cell = Cell("a", [Picture(solid(COLOURS[0]))])
    for make, message in [
        (lambda: Grid([]), "no prompts to compare"),
        (lambda: Grid([[]]), "no methods to compare"),
        (lambda: Grid([[cell], [cell, cell]]), "row 2 has 2 cells, and row 1 has 1"),
        (lambda: Grid([[cell]], column_titles=["a", "b"]), "2 column titles for 1 columns"),
        (lambda: Grid([[cell]], row_titles=[]), "0 row titles for 1 rows"),
        (lambda: draw_grid(small_grid(), 8), "cell_size must be from 16 to 4096 pixels, not 8"),
        (lambda: draw_grid(Grid([[cell] * 9] * 9), 4096), "draw fewer rows, or a smaller cell_size"),
        (lambda: draw_grid(Grid([[Cell("a", [Picture(torch.zeros(1, 8, 8))])]])), r"not (1, 8, 8)"),
        (lambda: save_grid(small_grid(), tmp_path / "grid.gif"), "a grid is written as .png"),
        (lambda: save_grid(Grid([[cell]] * 60), tmp_path / "grid.webp"), "too many for a WEBP"),
    ]:
        with pytest.raises(ValueError) as caught:
            make()
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        save_grid(small_grid(), tmp_path / "file" / "grid.html")


def test_a_short_name_of_a_score_is_shown():
    grid = Grid([[Cell("", [Picture(solid(COLOURS[0]), 0, {"clip": 0.5})])]])
    assert "clip 0.500" in words(layout_grid(grid))


def test_every_character_has_ink_and_what_the_font_lacks_is_a_box_with_its_code_point():
    def ink(text):
        grid = Grid([[Cell(text, [None])]])
        (caption,) = (t.box for t in layout_grid(grid).texts[1:])
        return np.asarray(draw_grid(grid))[caption.top : caption.bottom, caption.left : caption.right]

    for char in "aéñßłŷőЖЎΩ…–“”×→−▲▼±✓☀":
        assert ink(char).min() < 150 and not np.array_equal(ink(char), ink("日"))
    boxes = [ink(char) for char in ("日", "月", "א", "ا", "🏯", "🏰", "ก", "็", "\ue000", "\U0010ffff")]
    for i, box in enumerate(boxes):
        assert box.min() < 150 and not any(np.array_equal(box, other) for other in boxes[:i])
    assert np.array_equal(ink("日"), ink("\u200b日\ufe0f\u200d")) and np.array_equal(ink("a\u202eb"), ink("ab"))
    for odd in ("\0", "a\ud800", "\x1b[31m", "e" + "\u0301" * 50, "\u202eabc", "\n\u2029", "ก็", "שלום"):
        draw_grid(Grid([[Cell(odd, [None], odd)]], [odd], [odd], odd, odd))


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("text", ["日本の城", "a日b🏯c", "קלעה", "👩\u200d🚀", "castle", "ก็ e\u0301", "\U0010ffff"])
def test_ink_is_as_wide_as_the_text_is_said_to_be(text, bold):
    image = Image.new("L", (1200, 200), 255)
    draw_span(ImageDraw.Draw(image), Span(10.0, text, bold, "black"), 30, 20, 4)
    left, top, right, bottom = ImageOps.invert(image).getbbox()
    width = text_width(text, bold, 20)
    assert 40 <= left <= 40 + 12 and 40 + 4 * width - 16 <= right <= 40 + 4 * width + 1
    assert top >= 4 * (30 - baseline(20)) and bottom <= 4 * (30 - baseline(20) + line_height_of(20))

"""What people see and do with the pages, in a real browser: nothing is loaded, nothing fails, nothing is cut off."""

import io

import numpy as np
import pytest
from PIL import Image

from neuroprompt.pages.grid import Cell, Grid, Picture, save_grid
from tests.evaluation.browser import Browser, find_chromium
from tests.evaluation.test_report import write_report

WIDTHS = (360, 400, 700, 1200)
METHODS = ("plain", "suffix", "enhanced")
DECODED = "Promise.all([...document.querySelectorAll('img[src]')].map(i => i.decode().then(() => i.naturalWidth)))"
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (chromium := find_chromium()):
        pytest.skip("no Chromium on this machine")
    made = Browser(chromium, tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture
def grid_page(tmp_path):
    """Two prompts, three methods, two seeds; every picture has another width. One is missing, one is withheld."""

    def cell(prompt, row, column):
        pictures = [
            Picture(
                Image.new("RGB", (64 + 4 * row + 2 * column + k, 64), (40 * row, 60 * column, 90 * k)),
                seed=k,
                scores={"pickscore": 20.0 + column, "clip[ViT-L-14:openai]": 0.25 - 0.01 * column},
                flagged=(row, column, k) == (1, 2, 1),
            )
            for k in range(2)
        ]
        text = f"{prompt}, {', '.join(['highly detailed', 'sharp focus'] * 4)}" if column else prompt
        return Cell(text, pictures if (row, column) != (1, 1) else [pictures[0], None], prompt)

    prompts = ["boy on a horse", "a castle & <b>a moat</b>"]
    rows = [[cell(prompt, i, j) for j in range(3)] for i, prompt in enumerate(prompts)]
    grid = Grid(rows, METHODS, prompts, "Before and after", "seeds 0 and 1")
    save_grid(grid, tmp_path / "grid.html")
    return tmp_path / "grid.html"


def assert_alone(browser, page):
    """It asked for itself and for what is in it, and has nothing to complain of."""
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.complaints == []


def shown_large(browser):
    """What the dialog shows: the picture's width, the method, the prompt, the rest; None where it is closed."""
    return browser.run(
        "(async () => { const d = document.querySelector('dialog'), i = d.querySelector('img'); "
        "if (!d.open) return null; await i.decode(); "
        "return [i.naturalWidth, ...['strong', 'p', 'small'].map(s => d.querySelector(s).textContent)]; })()"
    )


def focused_picture(browser, width):
    """The width of the picture that has the focus, which it gets some time after a dialog is closed: waits for it."""
    return browser.run(
        "(async () => { const focused = () => document.activeElement.querySelector('img')?.naturalWidth; "
        f"for (let k = 0; k < 200 && focused() !== {width}; k++) await new Promise(go => setTimeout(go, 10)); "
        "return focused(); })()"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_grid_is_whole_at_any_width(browser, grid_page, width):
    browser.open(grid_page, width)
    assert browser.run("[...document.querySelectorAll('h1, h2')].map(h => h.innerText)") == [
        *("Before and after", "boy on a horse", "a castle & <b>a moat</b>")
    ]
    assert browser.run("document.querySelectorAll('figure table').length") == 6
    assert browser.run(DECODED) == [64, 65, 66, 67, 68, 69, 68, 69, 70, 72]
    notes = ["missing", "withheld by the safety checker"]
    assert browser.run("[...document.querySelectorAll('.empty')].map(e => e.innerText)") == notes
    # The methods' names are above the columns, or above each picture where these do not fit side by side.
    names = browser.run(
        "[...document.querySelectorAll('.heads div, h3')].filter(e => e.offsetHeight).map(e => e.innerText)"
    )
    assert names == [*METHODS] * (1 if width == 1200 else 2)
    assert browser.run(SIDEWAYS) == 0
    over = (
        "[...document.querySelectorAll('table, figcaption, .pictures')].filter(e => "
        "e.getBoundingClientRect().right > e.closest('figure').getBoundingClientRect().right + 1).length"
    )
    assert browser.run(over) == 0
    assert_alone(browser, grid_page)


def test_prompts_of_a_grid_can_be_selected(browser, grid_page):
    browser.open(grid_page)
    select = "(getSelection().selectAllChildren(document.querySelectorAll('figcaption')[3]), getSelection().toString())"
    assert browser.run(select) == "a castle & <b>a moat</b>"


def test_a_click_enlarges_and_keys_go_on(browser, grid_page):
    browser.open(grid_page)
    assert shown_large(browser) is None
    browser.click("section:nth-of-type(1) figure:nth-of-type(2) button:nth-of-type(2)")
    width, method, prompt, rest = shown_large(browser)
    assert (width, method, rest) == (67, "suffix", "seed 1 · pickscore 21.00 · clip[ViT-L-14:openai] 0.2400")
    assert prompt.startswith("boy on a horse, highly detailed")
    size = browser.run("(b => [b.width, b.height])(document.querySelector('dialog').getBoundingClientRect())")
    assert size == [1200, 800]
    # The keys change the method, and the prompt of the same seed; then comes the seed before.
    for key, found in (("ArrowLeft", [65, "plain"]), ("ArrowDown", [69, "plain"]), ("ArrowLeft", [72, "enhanced"])):
        browser.press(key)
        assert shown_large(browser)[:2] == found
    browser.press("Escape")
    assert shown_large(browser) is None
    assert focused_picture(browser, 72) == 72  # where the keys had led to
    browser.click("section:nth-of-type(2) figure:nth-of-type(1) img")
    assert shown_large(browser)[:3] == [68, "plain", "a castle & <b>a moat</b>"]
    browser.click("dialog button")
    assert shown_large(browser) is None
    assert_alone(browser, grid_page)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_is_whole_at_any_width(browser, folder, width):
    page = write_report(folder)
    browser.open(page, width)
    heads = browser.run("[...document.querySelectorAll('h1, h2')].map(h => h.innerText)")
    assert heads[:3] == ["Ours & <theirs>", "What each method adds to the reward", "Prompts in the middle"]
    assert {"Rewards", "Paired differences", "Training", "All numbers"} <= {*heads}
    rows = browser.run("[...document.querySelectorAll('.wide table')].map(t => t.tBodies[0].rows.length)")
    assert len(rows) == 5 and rows[0] == 3  # a row for each method
    browser.click("summary")
    assert "a <b>cat</b>, <script>alert(1)</script>" in browser.run("document.querySelector('details').innerText")
    assert browser.run(DECODED) == [256] * 4
    sizes = browser.run(
        "[...document.querySelectorAll('svg, img')].map(e => (b => [b.width, b.height])(e.getBoundingClientRect()))"
    )
    assert len(sizes) == 7 + 4 and all(100 < w < width and h > 30 for w, h in sizes)
    assert browser.run(SIDEWAYS) == 0  # wide tables scroll in a box of their own
    downloads = (
        "Promise.all([...document.querySelectorAll('a[download]')].map("
        "async a => [a.download, atob(a.href.split('base64,')[1]).length]))"
    )
    assert dict(browser.run(downloads))["results.csv"] == (folder / "results.csv").stat().st_size
    assert_alone(browser, page)


@pytest.mark.parametrize(
    ("scheme", "paper", "colours"),
    [
        ("light", (255, 255, 255), [(0, 120, 90), (37, 99, 235)]),
        ("dark", (24, 24, 27), [(52, 211, 153), (96, 165, 250)]),
    ],
)
def test_a_report_is_drawn_in_the_readers_colours(browser, folder, scheme, paper, colours):
    browser.open(write_report(folder), 900, scheme=scheme)
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    assert picture.getpixel((2, 2)) == paper
    pixels = np.asarray(picture).reshape(-1, 3)
    for colour in colours:  # the plots' shapes, for better and of curves
        assert (pixels == colour).all(1).sum() > 50

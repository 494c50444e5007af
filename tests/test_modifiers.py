"""The vocabularies' files, the categories of real segments, and that the build script makes the same files again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroprompt
from neuroprompt.modifiers import CATEGORIES, categorise, spelling_key, suggestions, vocabulary

FOLDER = Path(neuroprompt.__file__).parent / "modifiers"
SCRIPT = Path(__file__).parent.parent / "training" / "embedded" / "build_modifiers.py"
SOURCES = os.environ.get("NEUROPROMPT_SOURCES")

SMALLEST = {"artist": 1500, "style": 200, "format": 150, "perspective": 150, "booster": 300, "vibe": 300}

SEGMENTS = {
    "artist": """
        by greg rutkowski | art by artgerm and greg rutkowski | in the style of van gogh | style of alphonse mucha
        by Gustave Doré | gustave dore | h. r. giger | H.R. Giger | hr giger | by beeple | art by wlop and ross tran
        painted by claude monet | a painting by zdzisław beksiński | artgerm and greg rutkowski and alphonse mucha
        by somebody unknown | oil painting by rembrandt | studio ghibli | pixar | studio ghibli style | (by mucha:1.2)
        Katsushika Hokusai | and alphonse mucha | directed by denis villeneuve | inspired by hieronymus bosch
    """,
    "style": """
        cyberpunk | Art Nouveau | art deco style | anime style | ukiyo - e | surrealism | steampunk
        in the style of cubism | baroque | vaporwave aesthetic | dark fantasy | pop art | (impressionist)
    """,
    "format": """
        oil painting | an oil painting of | oil on canvas | watercolor painting | a pencil sketch | 3 d render
        digital painting | concept art illustration | polaroid photo | stained glass window | ink drawing | pixel art
        black and white photograph | movie poster | detailed matte painting
    """,
    "perspective": """
        wide angle | wide-angle shot | close up | close-up portrait | full body | low angle | bird's eye view
        isometric | macro lens | shallow depth of field | 85 mm | 85mm lens | f / 1.8 | f / 1. 4 | rule of thirds
        white background | from above | over-the-shoulder shot | medium shot
    """,
    "booster": """
        highly detailed | ultra-detailed | 8 k | 8K resolution | trending on artstation | trending on artstation hq
        (masterpiece:1.2) | [sharp focus] | award - winning photo | unreal engine 5 | octane render | insanely detailed
        hyper-realistic | artstation | cgsociety | ((intricate details)) | photorealistic | uhd
        trending on deviantart | 8 k resolution
    """,
    "vibe": """
        cinematic lighting | dramatic lighting | volumetric light | golden hour | moody | ethereal | very cinematic
        soft pastel colors | dark and moody | eerie atmosphere | neon lights | vibrant colors | vibrant colours
        cozy | muted color palette | black and white | god rays | rim-light
    """,
}
NO_MODIFIERS = """
    , | boy on a horse | a castle | long hair | surrounded by wolves | blue eyes | wearing a red dress | by the sea
    medieval fantasy castle | old man | an army lit by nothing known to us all | two dogs playing chess
    by a river | 🐎 | ((()))
"""


def segments(text: str) -> list[str]:
    return [segment.strip() for line in text.strip().splitlines() for segment in line.split(" | ")]


@pytest.mark.parametrize(
    ("segment", "category"), [(s, category) for category, text in SEGMENTS.items() for s in segments(text)]
)
def test_categorise_real_segments(segment, category):
    assert categorise(segment) == category


@pytest.mark.parametrize("segment", ["", "   ", *segments(NO_MODIFIERS)])
def test_categorise_leaves_the_rest_alone(segment):
    assert categorise(segment) is None


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_term_has_its_own_category(category):
    for term in vocabulary(category):
        assert categorise(term) == category, term
        assert categorise(f"({term.upper()}:1.3)") == category, term


@given(st.text(max_size=60))
def test_categorise_takes_any_text(text):
    assert categorise(text) in {*CATEGORIES, None}
    assert spelling_key(spelling_key(text)) == spelling_key(text)


@pytest.mark.parametrize("category", CATEGORIES)
def test_file_is_well_formed(category):
    lines = (FOLDER / f"{category}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("# ")]
    assert lines[0].startswith("# ") and any("CC BY 4.0" in line for line in lines[:10])
    for row in rows:
        assert 2 <= len(row) <= 4 and row[0].isdigit() and row[1] == row[1].strip().lower() != ""
        assert row[2:3] in ([], [""], ["first"])
    order = [(-int(row[0]), row[1]) for row in rows]
    assert order == sorted(order)
    assert len(rows) >= SMALLEST[category]


def test_no_spelling_stands_twice():
    seen = {}
    for category in CATEGORIES:
        for line in (FOLDER / f"{category}.txt").read_text(encoding="utf-8").splitlines():
            if not line.startswith("# "):
                _, term, _, spellings = (*line.split("\t"), "", "")[:4]
                for spelling in [term, *filter(None, spellings.split(" | "))]:
                    key = spelling_key(spelling)
                    assert key and key not in seen, (key, category, seen.get(key))
                    seen[key] = category


def test_vocabulary_is_sorted_cached_and_read_only():
    artists = vocabulary("artist")
    assert artists is vocabulary("artist")
    assert list(artists.values()) == sorted(artists.values(), reverse=True)
    assert artists["greg rutkowski"] == 192_917  # as NeuroPrompts published it
    with pytest.raises(TypeError):
        artists["me"] = 1


def test_suggested_artists_are_long_dead_or_studios():
    offered = [name for name, _ in suggestions("artist", limit=120)]
    assert len(offered) == 120
    assert {"alphonse mucha", "claude monet", "vincent van gogh", "caravaggio", "katsushika hokusai"} <= set(offered)
    assert {"studio ghibli", "pixar"} <= set(offered)
    assert not {"greg rutkowski", "artgerm", "wlop", "beeple", "james jean"} & set(offered)
    everyone = [name for name, _ in suggestions("artist", limit=None)]
    assert sorted(everyone) == sorted(vocabulary("artist"))
    assert everyone.index("greg rutkowski") == min(map(everyone.index, {"greg rutkowski", "artgerm", "wlop"}))


def test_suggestions_search_any_spelling():
    assert suggestions("artist", search="Doré")[0][0] == "gustave dore"
    assert "wide angle lens" in dict(suggestions("perspective", limit=None, search="wide-angle"))
    assert suggestions("vibe", search="no such vibe") == []
    assert len(suggestions("booster", limit=3)) == 3


@pytest.mark.parametrize("ask", [vocabulary, suggestions])
def test_unknown_category_names_the_six(ask):
    with pytest.raises(ValueError, match=r"'mood'.*artist, style, format, perspective, booster, vibe") as error:
        ask("mood")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not SOURCES, reason="NEUROPROMPT_SOURCES (folder with modifiers/ and prompts/) is not set")
@pytest.mark.exhaustive
def test_script_makes_the_same_files_again(tmp_path):
    prompts = Path(SOURCES) / "prompts" / "sd_discord_prompts.parquet"
    command = [
        sys.executable,
        SCRIPT,
        "--sources",
        Path(SOURCES) / "modifiers",
        "--prompts",
        prompts,
        "--output",
        tmp_path,
    ]
    subprocess.run(command, check=True)
    for category in CATEGORIES:
        name = f"{category}.txt"
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{category}.txt" for category in CATEGORIES)

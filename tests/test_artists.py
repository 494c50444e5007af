import re

import pytest

from neuroprompt.artists import historical, names_celebrity, names_in, names_somebody
from neuroprompt.modifiers import suggestions


def test_every_historical_name_has_its_reason():
    for name, reason in historical().items():
        year = re.fullmatch(r"died (\d+)", reason)
        if year:
            assert int(year[1]) < 1954, name
        else:
            assert re.fullmatch(r"\d+th century|studio|school|movement|magazine|missing since 1945", reason), (
                name,
                reason,
            )


def test_most_frequent_living_artists_are_not_historical():
    living = [
        "greg rutkowski",
        "artgerm",
        "wlop",
        "ilya kuvshinov",
        "makoto shinkai",
        "james jean",
        "beeple",
        "peter mohrbacher",
    ]
    recent = [
        "h. r. giger",
        "zdzislaw beksinski",
        "norman rockwell",
        "salvador dali",
        "walt disney",
        "frida kahlo",
        "moebius",
    ]
    for name in living + recent:
        assert not all(n.historical for n in names_in(name)), name
    assert sum(n.historical for name, _ in suggestions("artist", None) for n in names_in(name)) > 500


@pytest.mark.parametrize(
    "modifier",
    [
        "by greg rutkowski",
        "greg rutkowski",
        "art by artgerm and alphonse mucha",
        "by raphael lacoste",
        "by jane doe",
        "in the style of john smith",
        "in the style of john smith and monet",
        "by rembrandt and jane doe",
        "by walt disney",
        "moebius style",
        "style of dark souls",
    ],
)
def test_living_and_unknown_names_are_found(modifier):
    assert names_somebody(modifier)


@pytest.mark.parametrize(
    "modifier",
    [
        "by alphonse mucha",
        "art by Alphonse Mucha and William-Adolphe Bouguereau",
        "oil painting by rembrandt",
        "in the style of studio ghibli",
        "van gogh style",
        "disney",
        "lit by candles",
        "by candlelight",
        "side by side",
        "in the style of the 1980s",
        "highly detailed",
        "",
    ],
)
def test_others_name_nobody(modifier):
    assert not names_somebody(modifier)


def test_longest_name_counts():
    assert [(n.term, n.historical) for n in names_in("raphael lacoste and raphael")] == [
        ("raphael lacoste", False),
        ("raphael", True),
    ]


def test_celebrities():
    assert names_celebrity("portrait of Emma Watson as an elf") and names_celebrity("trump eating a burger")
    assert not names_celebrity("portrait of an old fisherman") and not names_celebrity("a trumpet")

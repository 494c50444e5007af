import pytest

from neuroprompt.decoding import ConstraintError, Constraints, Match, check, occurrences
from neuroprompt.decoding.constraints import MAX_CLAUSES, fold


def test_clauses_come_in_order_and_mean_either():
    wish = Constraints(
        artist="alphonse mucha", vibe=["calm", "serene"], require=["fog|mist", ["a", "b|c"]], forbid="x|y"
    )
    assert wish.named_clauses == (
        ("artist", ("alphonse mucha",)),
        ("vibe", ("calm", "serene")),
        ("require", ("fog", "mist")),
        ("require", ("a", "b", "c")),
    )
    assert wish.forbidden == ("x", "y")
    assert wish == Constraints(
        artist=("alphonse mucha",), vibe="calm|serene", require=(("fog", "mist"), ["a", "b", "c"]), forbid=["x", "y"]
    )
    assert len({wish, Constraints(), Constraints(require=())}) == 2


def test_asking_for_nothing_is_falsy():
    assert not Constraints()
    assert not Constraints(require=[], forbid=[])
    assert Constraints(forbid="blurry")
    assert Constraints(auto="style")


def test_auto_is_a_clause_of_the_whole_vocabulary():
    from neuroprompt.modifiers import vocabulary

    wish = Constraints(auto=("style", "artist"), forbid="baroque")
    (style, styles), (artist, artists) = wish.named_clauses
    assert (style, artist) == ("style", "artist")
    assert set(styles) == {term for term in vocabulary("style") if not list(occurrences(term, "baroque"))}
    assert len(artists) == len(vocabulary("artist")) > 100


@pytest.mark.parametrize(
    "values, message",
    [
        ({"artist": ""}, "artist: an empty phrase in ''"),
        ({"style": "a| "}, "style: an empty phrase"),
        ({"require": ["\ufe0f"]}, "empty phrase"),
        ({"artist": 3}, "artist: 3 is no phrase"),
        ({"require": [["fog", None]]}, "require: None is no phrase"),
        ({"forbid": ["a\0b"]}, "has a NUL"),
        ({"forbid": ["\ud800"]}, "surrogate"),
        ({"require": ["\u0301a"]}, "begins with a combining mark"),
        ({"auto": "colour"}, "auto: 'colour' is no category"),
        ({"style": "Baroque", "forbid": "baroque"}, "style: the required 'Baroque' is also forbidden"),
        ({"style": "bad art", "forbid": ["x", "ART"]}, "style: the required 'bad art' contains the forbidden 'ART'"),
        ({"require": ["x" + str(i) for i in range(MAX_CLAUSES + 1)]}, "63 clauses are more than the 62"),
    ],
)
def test_errors_are_one_line_that_names_the_phrase(values, message):
    with pytest.raises(ConstraintError) as error:
        Constraints(**values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_alternative_that_is_forbidden_is_left_out():
    assert Constraints(style="art deco|baroque", forbid="art").clauses == (("baroque",),)
    assert Constraints(style="artful|baroque", forbid="art").clauses == (("artful", "baroque"),)


def test_a_forbidden_phrase_in_the_users_text():
    wish = Constraints(forbid=["greg rutkowski"])
    wish.refuse("a greg rutkowskis")
    with pytest.raises(ConstraintError, match="the prompt itself says 'Greg  Rutkowski', which is forbidden"):
        wish.refuse("boy by Greg  Rutkowski")


@pytest.mark.parametrize(
    "text, phrase, spans",
    [
        ("art, artist, start, ART", "art", [(0, 3), (20, 23)]),
        ("an  art\n deco hall", "art deco", [(4, 13)]),
        ("CAFE\u0301 café Café", "café", [(0, 5), (6, 10), (11, 15)]),
        ("cafe\u0301", "cafe", []),
        ("Straße STRASSE", "strasse", [(0, 6), (7, 14)]),
        ("c++, c+++ and C+", "c++", [(0, 3), (5, 8)]),
        ("low-poly low poly", "low-poly", [(0, 8)]),
        ("☀️sun ☀", "☀", [(0, 1), (6, 7)]),
        ("sun☀", "sun", [(0, 3)]),
        ("富士山", "富士", [(0, 2)]),
        ("が か", "か", [(2, 3)]),
        ("8k, 18k, 8k_hdr", "8k", [(0, 2)]),
        ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς", [(0, 8)]),
        ("İstanbul", "i\u0307stanbul", [(0, 8)]),
        ("a a a", "a a", [(0, 3), (2, 5)]),
    ],
)
def test_what_occurs_where(text, phrase, spans):
    assert list(occurrences(text, phrase)) == spans


def test_folding_is_done_character_by_character():
    text = "İstanbul Straße ǅ ﬁ ὈΔΥΣΣΕΎΣ \u1e9b\u0323 각"
    assert fold(text) == "".join(fold(char) for char in text)


def test_check_says_which_words_meet_which_clause():
    wish = Constraints(artist="alphonse mucha", require=["sunset|golden hour", "fog"], forbid="blurry")
    report = check("Boy, by Alphonse Mucha, golden hour at sunset, not blurry", wish)
    assert report.names == ("artist", "require", "require")
    assert report.matches == (Match("alphonse mucha", 8, 22), Match("golden hour", 24, 35), None)
    assert report.forbidden == (Match("blurry", 51, 57),)
    assert report.satisfied == 2
    assert not report
    assert check("Alphonse Mucha: fog, sunset", wish)

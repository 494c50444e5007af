import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.decoding.constraints import MAX_CLAUSES, Constraints, check
from neuroprompt.locked import in_other_script, lock

texts = st.text() | st.lists(
    st.sampled_from(
        [*"()[]{}<>:|\\\"'“”,. \n", "(red:1.3)", "[a:b:0.5]", "<lora:x:1>", "BREAK", "AND", "no ", "without ", "dogs "]
        + [
            "12",
            "running",
            "é",
            "\u0301",
            "🦊",
            "\ufe0f",
            "狐",
            "かが",
            "\u200d",
            "or ",
            "of ",
            "Eiffel Tower",
            "don't ",
        ]
    ),
    max_size=14,
).map("".join)


@given(texts, st.lists(texts, max_size=2), st.booleans())
def test_a_prompt_meets_its_own_clauses_and_keeps_what_is_verbatim(prompt, keep, keep_words):
    locked = lock(prompt, keep, keep_words)
    wanted = Constraints(require=locked.clauses)
    assert check(locked.asked, wanted)
    for text in (locked.asked, "A retelling.", prompt):
        restored = locked.restore(text)
        assert all(typed in restored for typed in locked.verbatim)
        assert locked.restore(restored) == restored


@pytest.mark.parametrize(
    ("prompt", "locked"),
    [
        ("please draw me a picture of 3 mice running", "3|three mice|mouse running|run|ran|runs"),
        ("a building in the evening", "building|buildings evening"),
        ("a saw left by the king's rose", "saw|saws left king|kings rose|roses"),
        ("leaves, glasses, wolves, dice", "leaves|leaf|leafs glasses wolves|wolf dice"),
        ("painted red, surprised, ate figs", "painted red surprised ate|eat|eaten|eating|eats figs|fig"),
        ("a can of Spam that one can see", "can Spam see|seeing|seen|sees"),
        ("forty-two t-shirts", "forty-two|forty_two|42 t-shirts|t-shirt|t_shirts|t_shirt"),
        ("42 bees", "42|forty-two|forty_two bees|bee"),
        ("one hand on the other one", "one|1|single hand|hands"),
        ("Sydney Opera House next to the Eiffel Tower", "Sydney_Opera_House Eiffel_Tower"),
        ("A Beautiful Red Fox Sleeping", "Beautiful Red Fox|foxes Sleeping|sleep|sleeps|slept"),
        ("Will Smith will be in the US", "Will_Smith US"),
        ("shot at f/1.8 in 16:9, 1,000 dots", "shot f/1.8 16:9 1,000 dots|dot"),
        ("without cars", "without_cars|no_cars|without_any_cars|without_car|no_car|without_any_car|without_a_car"),
        ("no ink or wax", "no_ink|without_ink|without_any_ink|without_an_ink "
         "or_wax|nor_wax|without_wax|no_wax|without_any_wax|without_a_wax|"
         "or_waxes|nor_waxes|without_waxes|no_waxes|without_any_waxes"),
        ("fox's den, no ink", "fox|foxes den|dens no_ink|without_ink|without_any_ink|without_an_ink"),
        ("not amused", "not_amused|never_amused"),
        ("it doesn't fit", "doesn't_fit|not_fit|never_fit"),
        ("no pairs of shoes", "no_pairs_of_shoes|without_pairs_of_shoes|without_any_pairs_of_shoes"),
        ("ein Fuchs unter einer Brücke ohne Menschen", "Fuchs Brücke ohne_Menschen"),
        ("лиса под мостом без людей", "лиса мостом без_людей"),
        ("un bol d'olives sur la table", "bol olives|olive table|tables"),
        ("赤い狐、古い橋", "赤い狐 古い橋"),
        ("fox🦊🔥 ☀️", "fox|foxes 🦊🔥 ☀️"),
    ],
)  # fmt: skip
def test_content_words(prompt, locked):
    """`locked` has a blank between clauses, a bar between alternatives, and a low line for their blanks."""
    clauses = {frozenset(phrase.replace(" ", "_") for phrase in clause) for clause in lock(prompt).clauses}
    assert clauses == {frozenset(clause.split("|")) for clause in locked.split()}


@pytest.mark.parametrize(
    ("prompt", "asked", "answer", "restored"),
    [
        ("a (red hat:1.3)", "a red hat", "Red hats? One red hat.", "Red hats? One (red hat:1.3)."),
        ("((red)), [hat]", "red, hat", "A red hat.", "A ((red)) [hat]."),
        ("(snow, best quality:1.2)", "snow, best quality", "Snow of best quality", "(snow:1.2) of (best quality:1.2)"),
        ("a ((red) hat:1.1)", "a red hat", "A red hat.", "A ((red) hat:1.1)."),
        ("a [cat:dog:0.5]", "a dog", "A big dog.", "A big [cat:dog:0.5]."),
        ("a [cat::0.5]", "a cat", "A big cat.", "A big [cat::0.5]."),
        ("a [cat|dog]", "a cat", "A big cat.", "A big [cat|dog]."),
        (r"saber \(fate\)", "saber (fate)", "Saber (Fate).", r"Saber \(fate\)."),
        ("<lora:a:1>, a cat, <lyco:b:0.5>", "a cat", "A cat.", "<lora:a:1> A cat. <lyco:b:0.5>"),
        ("a cat, (embedding:x:1.2) --ar 16:9", "a cat", "A cat", "A cat (embedding:x:1.2) --ar 16:9"),
        ("a <my-cat> by art_by_x", "a <my-cat> by art_by_x", "Art_by_X: <my-cat>", "art_by_x: <my-cat>"),
        ('a sign "OPEN"', 'a sign "OPEN"', "A sign: ‘open’, open.", 'A sign: "OPEN", open.'),
        ("「東京」の看板", "「東京」の看板", "The sign says “東京”", "The sign says 「東京」"),
        ("the words 'don't panic'", "the words 'don't panic'", "“Don't Panic”", "'don't panic'"),
        ('"a whole prompt in quotes"', "a whole prompt in quotes", "A whole", "A whole"),
        ("a cat BREAK a dog", "a cat, a dog", "A cat, asleep. A big dog.", "A cat, asleep. BREAK A big dog."),
        ("a cat BREAK a dog", "a cat, a dog", "A dog and a cat.", "A dog and a cat. BREAK"),
        ("a cat :1.2 AND a dog", "a cat and a dog", "A cat and a dog.", "A cat and a dog."),
        ("a sad cat :( in (rain", "a sad cat :( in (rain", "A sad cat.", "A sad cat."),
    ],
)
def test_restore(prompt, asked, answer, restored):
    locked = lock(prompt, keep_words=False)
    assert locked.asked == asked
    assert locked.restore(answer) == restored
    assert locked.restore(restored) == restored
    assert check(restored, Constraints(require=locked.clauses)) or "whole" in prompt  # what is typed says it as well


def test_each_notation_has_its_place():
    locked = lock("(red:1.3) hat, (red:1.1) shoes")
    assert locked.restore("A red hat over red shoes.") == "A (red:1.3) hat over (red:1.1) shoes."
    assert locked.restore("A red hat.") == "A (red:1.3) hat. (red:1.1)"


def test_what_the_user_names_is_to_the_letter():
    locked = lock("ohwx woman's hat, (red:1.2)", ["OHWX woman", "blue", "red"], keep_words=False)
    assert locked.asked == "OHWX woman's hat, red, blue"
    assert set(locked.clauses) == {("OHWX woman",), ("red",), ("blue",)}
    assert locked.restore("Blue: a red hat, an ohwx woman's.") == "blue: a (red:1.2) hat, an OHWX woman's."


def test_there_are_no_more_clauses_than_there_may_be():
    locked = lock(" ".join(f"w{i}x" for i in range(70)) + " (kept:1.2)")
    assert len(locked.clauses) == MAX_CLAUSES and locked.clauses[0] == ("kept",)
    assert locked.left_out == tuple((f"w{i}x",) for i in range(61, 70))


@pytest.mark.parametrize(
    ("prompt", "answer", "other"),
    [
        ("a red fox", "一只红色的狐狸", True),
        ("a red fox", "A red fox named 小狐", False),
        ("富士山 at dawn", "夜明けの富士山", False),
        ("лиса, Canon EOS R5", "a fox, Canon EOS R5", False),
        ("лиса под старым мостом", "a fox under an old bridge", True),
        ("きつね", "一只狐狸", False),
        ("42 🦊", "a fox", False),
        ("a fox", "42", False),
    ],
)
def test_in_other_script(prompt, answer, other):
    assert in_other_script(prompt, answer) == other

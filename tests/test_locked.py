from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.decoding.constraints import Constraints, check
from neuroprompt.locked import lock

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
    assert check(locked.asked, Constraints(require=locked.clauses))
    for text in (locked.asked, "A retelling.", prompt):
        restored = locked.restore(text)
        assert all(typed in restored for typed in locked.verbatim)
        assert locked.restore(restored) == restored

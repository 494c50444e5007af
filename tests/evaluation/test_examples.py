"""Which prompts a report shows."""

from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.evaluation.examples import best_median_worst, prompts_in_the_middle


@given(st.integers(0, 30), st.integers(0, 5))
def test_no_example_is_there_twice(n, count):
    rows = best_median_worst([[i, -float(i)] for i in range(n)], count)
    assert len({i for i, _, _ in rows}) == len(rows) == min(n, 3 * count)
    if n >= 3 * count > 0:
        assert [i for i, _, kind in rows if kind == "best"] == list(range(count))
        assert [i for i, _, kind in rows if kind == "worst"] == list(range(n - count, n))


def test_the_middle_is_of_what_all_methods_gain():
    ranked = {"a": [[0, 9.0], [1, 8.0], [2, 1.0], [3, 0.0], [4, -9.0]], "b": [[4, 5.0], [3, 4.0], [2, 1.0], [1, 1.0]]}
    assert prompts_in_the_middle(ranked, 1) == [3]  # 4.5, 2, 1, -2 of prompts 1 to 4; 0 has none by b
    assert prompts_in_the_middle(ranked, 2) == [3, 2]
    assert prompts_in_the_middle(ranked, 9) == [1, 3, 2, 4]
    assert prompts_in_the_middle({"a": [], "b": [[0, 1.0]]}, 3) == []

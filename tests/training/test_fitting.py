"""What fits of prepared pairs, and which of them stay."""

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.fit import log_lift
from neuroprompt.prompts import Prompt
from neuroprompt.training.fitting import FittingConfig, fitting, keep_fitting

PROMPTS = ["a lighthouse in a storm", "logo of a fox", "portrait of an old man", "a bowl of strawberries", "桜"]
MODIFIERS = ["fog", "35mm", "8k", "moody", "vector", "oil painting", "by monet", "food photography", "horror", "qwerty"]
tails = st.lists(st.sampled_from(MODIFIERS), unique=True).map(lambda names: "".join(f", {name}" for name in names))


@given(st.sampled_from(PROMPTS), tails, st.floats(-2, 2), st.integers(1, 4))
def test_what_stays_fits_and_is_as_it_was(prompt, tail, least, count):
    kept, worth = fitting(prompt, tail, FittingConfig(least, least, count))
    had, have = Prompt.parse(tail).segments, Prompt.parse(kept).segments
    assert have == tuple(name for name in had if name in have)
    if not kept:
        assert worth == 0
        return
    assert len(have) >= count and worth > 0
    assert all(lift is None or lift >= least for lift in (log_lift(prompt, name) for name in have))
    assert {name for name in had if (lift := log_lift(prompt, name)) is not None and lift >= least} <= {*have}


def test_media_styles_and_artists_must_fit_better():
    prompt, tail = "a lighthouse in a storm", ", oil painting, fog, moody, 8k"
    assert "oil painting" in fitting(prompt, tail, FittingConfig(least_manner=-9))[0]
    assert "oil painting" not in fitting(prompt, tail, FittingConfig(least_manner=9))[0]


def test_the_pairs_that_say_most_stay_in_their_order():
    rows = {
        "prompt": ["a lighthouse in a storm", "a castle", "logo of a fox", "a dog"],
        "completion": [", fog, moody, 8k", ", 8k, highly detailed", ", vector, white background, 8k", ", cute, 8k"],
        "medium": [""] * 4,
    }
    pairs = DatasetDict(train=Dataset.from_dict(rows), test=Dataset.from_dict(rows))
    kept = keep_fitting(pairs, FittingConfig(min_modifiers=2, train_pairs=2))
    assert kept["train"].column_names == ["prompt", "completion", "medium"]
    assert kept["train"]["prompt"][:] == ["a lighthouse in a storm", "logo of a fox"]
    assert set(kept["train"]["prompt"]) <= set(kept["test"]["prompt"]) and "a castle" not in kept["test"]["prompt"][:]


@pytest.mark.parametrize("setting", [{"min_modifiers": 0}, {"train_pairs": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        FittingConfig(**setting)

"""Texts of methods that are made of others': each asked once, and kept over a kill."""

import json

import pytest

from neuroprompt.evaluation.methods import Method
from neuroprompt.evaluation.writing import WRITTEN, Texts

PROMPTS = ["a", "b", "c", "d", "e"]


def make(asked, until=None):
    """One method, and others of its texts: in another order, longer, and both."""

    def write(prompts):
        if len(asked) == until:
            raise KeyboardInterrupt
        asked.extend(prompts)
        return [prompt.upper() for prompt in prompts]

    own = Method("own", write)
    turned = Method("turned", lambda prompts, texts: texts[::-1], whole=True, of=own)
    longer = Method("longer", lambda prompts, texts: [f"{p}{t}" for p, t in zip(prompts, texts, strict=True)], of=own)
    both = Method("both", lambda prompts, texts: [f"{p}{t}" for p, t in zip(prompts, texts, strict=True)], of=turned)
    return [own, turned, longer, both]


def test_every_chunk_of_every_method_and_nothing_twice(tmp_path):
    methods = make(asked := [])
    texts = Texts(PROMPTS, methods, 2)
    assert asked == []
    texts.prepare(tmp_path)
    assert asked == PROMPTS
    written = [[text for start in (0, 2, 4) for text in texts(method, start)[0]] for method in methods]
    assert written[0] == ["A", "B", "C", "D", "E"] and written[1] == ["E", "D", "C", "B", "A"]
    assert written[2] == ["aA", "bB", "cC", "dD", "eE"] and written[3] == ["aE", "bD", "cC", "dB", "eA"]
    assert asked == PROMPTS and texts(methods[0], 2)[1] > 0


@pytest.mark.parametrize("until", [2, 4])
def test_what_a_killed_run_has_written_is_read(tmp_path, until):
    killed = Texts(PROMPTS, make(asked := [], until), 2)
    with pytest.raises(KeyboardInterrupt):
        killed.prepare(tmp_path)
    assert asked == PROMPTS[:until]
    again = Texts(PROMPTS, methods := make(asked), 2)
    again.prepare(tmp_path)
    assert asked == PROMPTS and again(methods[1], 4)[0] == ["A"]
    assert list(json.loads((tmp_path / WRITTEN).read_text())) == ["own"]


def test_only_texts_that_are_needed_all_at_once_are_written_ahead(tmp_path):
    own, _, longer, _ = make(asked := [])
    texts = Texts(PROMPTS, [longer, own], 2)
    texts.prepare(tmp_path)
    assert asked == [] and not list(tmp_path.iterdir())
    assert texts(longer, 2)[0] == ["cC", "dD"] and texts(own, 2)[0] == ["C", "D"] and asked == ["c", "d"]


def test_a_file_is_read_at_once():
    def refuse(prompts):
        raise ValueError("one for each is wanted")

    with pytest.raises(ValueError, match="one for each"):
        Texts(PROMPTS, [Method("swapped", len, whole=True, of=Method("file", refuse, whole=True))], 2)

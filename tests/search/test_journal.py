"""What a search is kept in; that it comes to the same result when it is taken up is `test_loop.py`'s."""

import pytest

from neuroprompt.search.journal import Journal
from tests.search.world import World, search


def test_what_is_written_is_read_again(tmp_path):
    settings = {"seed": 0}
    with Journal(tmp_path / "s.json", settings) as journal:
        journal.proposals["a cat"] = [[[["8k", "hdr"]], []]]
        journal.pictures["a cat"] = {("a cat, 8k", 3): ([0.5, 1.0], False)}
        journal.save()
    with Journal(tmp_path / "s.json", settings) as again:
        assert again.proposals == journal.proposals and again.pictures == journal.pictures
    with Journal(None, settings) as memory:
        memory.save()


def test_a_state_of_another_search_is_refused(tmp_path):
    state = tmp_path / "s.json"
    search("a castle", budget=10, state=state)
    with pytest.raises(ValueError, match="other budget"):
        search("a castle", budget=11, state=state)
    with pytest.raises(ValueError, match="other images_per_prompt"):
        search("a castle", budget=10, reward=World(images_per_prompt=1), state=state)
    state.write_text('{"pictures": 3')
    with pytest.raises(ValueError, match="no state of a search"):
        search("a castle", budget=10, state=state)
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]

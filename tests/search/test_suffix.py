"""The best fixed suffix: what it finds where the answer is known, what it costs, and how it is taken up."""

import json
from typing import ClassVar

import pytest

from neuroprompt.judge import Judge
from neuroprompt.prompts import Prompt, count_clip_tokens, modifier_key
from neuroprompt.search import SuffixConfig, find_suffix, frequent_suffix, read_suffix
from tests.search.world import World, policy, unit

PROMPTS = [f"a {colour} {animal}" for colour in ("red", "green", "blue") for animal in ("fox", "owl", "cat", "swan")]


class Planted(World):
    """Two phrases that a policy may write are worth something, one of them more; every other modifier costs."""

    WORTH: ClassVar = {"golden light": 3.0, "misty ink": 2.0}

    def settings(self):
        return {"generator": self.generator.name, "noise": self.noise}

    def truth(self, text, original):
        modifiers = {modifier_key(segment) for segment in Prompt.parse(text[len(original) :]).segments}
        return sum(self.WORTH.get(modifier, -0.5) for modifier in modifiers) + unit(original)


def grow(reward=None, prompts=PROMPTS, propose=policy, state=None, **settings):
    return find_suffix(prompts, reward or Planted(), propose, SuffixConfig(**{"budget": 900} | settings), state=state)


def test_it_finds_what_is_planted_and_nothing_else():
    found = grow()
    assert found.modifiers == ("golden light", "misty ink")
    assert [one.modifier for one in found.growth if one.kept] == list(found.modifiers)
    assert found.gain == pytest.approx(5.0, abs=4 * found.error) and 0 < found.error < 0.5
    first = next(one for one in found.growth if one.kept)
    assert first.tried > 8 and first.gain == pytest.approx(3.0, abs=4 * first.error)


def test_where_nothing_gains_there_is_no_suffix_and_the_end_comes_early():
    class Dear(Planted):
        WORTH: ClassVar = {}

    found = grow(Dear(), budget=2000)
    assert found.modifiers == () and found.gain == 0 and not any(one.kept for one in found.growth)
    assert len(found.growth) == 3 and found.pictures < 2000


@pytest.mark.parametrize("budget", [48, 49, 333])
@pytest.mark.parametrize("length", [1, 10])
def test_every_picture_is_counted_and_none_is_drawn_twice_or_beyond_the_budget(budget, length):
    world = Planted()
    found = grow(world, budget=budget, length=length)
    assert len(world.drawn) == len(set(world.drawn)) == found.pictures <= budget
    assert sum(one.pictures for one in found.growth) == found.pictures
    plain = {(original, seed) for text, original, seed in world.drawn if text == original}
    assert plain == {(original, seed) for _, original, seed in world.drawn}  # each is set against its own
    seeds = [seed for _, seed in plain]
    assert len(set(seeds)) == len(seeds)  # and no seed serves twice
    assert len(found.modifiers) <= length


def test_a_prompt_that_fills_the_window_stays_as_it_is_and_costs_its_own_picture_alone():
    world, full = Planted(), " ".join(["castle"] * 80)
    found = grow(world, [*PROMPTS, full], budget=300, length=2)
    assert found.pictures == len(world.drawn)
    assert {text for text, original, _ in world.drawn if original == full} == {full}
    assert all(count_clip_tokens(text) <= 77 for text, original, _ in world.drawn if original != full)


def test_the_same_call_gives_the_same_result_and_another_seed_draws_others():
    worlds = Planted(), Planted(), Planted()
    one, again, _ = (grow(world, seed=seed, budget=300) for world, seed in zip(worlds, (0, 0, 1), strict=True))
    assert one == again and worlds[0].drawn == worlds[1].drawn
    assert {seed for *_, seed in worlds[2].drawn}.isdisjoint(seed for *_, seed in worlds[0].drawn)


def test_killed_and_taken_up_it_comes_to_the_same(tmp_path):
    few = {"budget": 300, "length": 3}
    undisturbed = grow(whole := Planted(), state=tmp_path / "whole.json", **few)
    drawn, kills = [], 0
    while True:
        world = Planted()
        world.stop_after = 3
        try:
            found = grow(world, state=tmp_path / "state.json", **few)
            break
        except KeyboardInterrupt:
            kills += 1
        finally:
            drawn += world.drawn
    assert kills > 2 and found == undisturbed and drawn == whole.drawn
    assert (tmp_path / "state.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    result = json.loads((tmp_path / "state.json").read_text())["result"]
    assert result["suffix"] == ", ".join(found.modifiers) != "" and result["pictures"] == found.pictures
    assert grow(finished := Planted(), state=tmp_path / "state.json", **few) == found and not finished.drawn
    with pytest.raises(ValueError, match="other length"):
        grow(budget=300, length=4, state=tmp_path / "state.json")


def test_what_a_person_would_not_sign_is_tried_only_where_that_is_asked_for():
    def somebody(asks, seed):
        return [[("greg rutkowski", "8k", "4k", "soft light", "qwrtz plmk")] * ask.count for ask in asks]

    tried = {coherent: set() for coherent in (True, False)}
    for coherent, seen in tried.items():
        grow(world := Planted(), propose=somebody, coherent=coherent, budget=300)
        seen |= {text[len(original) + 2 :] for text, original, _ in world.drawn if text != original}
    assert {"greg rutkowski", "qwrtz plmk", "soft light"} <= tried[False]
    assert {"highly detailed", "soft light"} <= tried[True]
    for suffix in tried[True]:
        judge = Judge("")
        for modifier in Prompt.parse(suffix).segments:
            assert not judge.objection(modifier)
            judge.add(modifier)


def test_pictures_that_nothing_is_known_of_choose_nothing():
    class Broken(Planted):
        def truth(self, text, original):
            return float("nan") if "golden" in text else super().truth(text, original)

    assert grow(Broken()).modifiers == ("misty ink",)


def test_what_is_wrong_is_said_in_a_line():
    with pytest.raises(ValueError, match="a budget of 9 pictures is too small"):
        SuffixConfig(budget=9)
    with pytest.raises(ValueError, match="length is 0"):
        SuffixConfig(length=0)
    with pytest.raises(ValueError, match="there are no prompts"):
        grow(prompts=[])
    with pytest.raises(ValueError, match="the prompt is empty"):
        grow(prompts=["a cat", " ,"])


def test_a_suffix_is_a_line_of_a_file(tmp_path):
    path = tmp_path / "suffix.txt"
    path.write_text("\n octane render,by  monet\n\n", encoding="utf-8")
    assert read_suffix(path) == ("octane render", "by monet")
    for content, message in (("", "holds 0 lines"), ("8k\nhdr\n", "holds 2 lines"), (", ,\n", "a suffix is one")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_suffix(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is no text"):
        read_suffix(path)
    with pytest.raises(ValueError, match="cannot read the suffix"):
        read_suffix(tmp_path / "none.txt")


def test_the_suffix_of_what_was_added_most_often(tmp_path):
    path = tmp_path / "finds.jsonl"
    texts = ["a cat, 8k, soft light", "a cat, Soft-Light, hdr", "a cat, soft light", "another text, hdr, hdr", "a cat"]
    records = [{"original": "a cat", "text": text, "images": 3} for text in texts]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert frequent_suffix(path) == ("soft light", "8k", "hdr")
    assert frequent_suffix(path, 1) == ("soft light",)
    path.write_text('{"original": "a cat", "text": "a cat"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="no text adds anything"):
        frequent_suffix(path)
    for broken in ("[", "[]", '{"text": "a cat"}', '{"original": 1, "text": "a"}'):
        path.write_text('{"original": "a", "text": "a, b"}\n' + broken, encoding="utf-8")
        with pytest.raises(ValueError, match=r"finds\.jsonl, line 2"):
            frequent_suffix(path)

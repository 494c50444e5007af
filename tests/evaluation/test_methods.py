import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.decoding import ConstraintError, Constraints, check
from neuroprompt.enhancer import TEMPERATURE
from neuroprompt.evaluation.gating import gate_numbers
from neuroprompt.evaluation.methods import METHODS, derangement, parse_methods, write
from neuroprompt.gate import Verdict
from neuroprompt.images import ImageGenerator
from neuroprompt.models import ModelError, locate
from neuroprompt.prompts import Prompt, count_clip_tokens, modifier_key
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.search import SearchConfig, optimize

PROMPTS = ["boy on a horse", "a castle, octane render", "robot playing guitar, ", "日本の城 🏯"]
WISH = Constraints(artist="alphonse mucha", forbid=["blurry"])


@pytest.fixture
def parse(enhancer, monkeypatch):
    """`parse_methods`, with the embedded policy that the session has loaded; `parse.loaded`: what was asked for."""
    loaded = []

    def load(source, device=None):
        loaded.append(source)
        return enhancer

    monkeypatch.setattr("neuroprompt.enhancer.PromptEnhancer.from_pretrained", load)

    def parse(specs, constraints=None, **settings):
        return parse_methods(specs, constraints, **{"num_beams": 2, "max_new_tokens": 16} | settings)

    parse.loaded = loaded
    return parse


def test_names_and_order(parse):
    methods = parse(" plain,enhanced , suffix")
    assert [m.name for m in methods] == ["plain", "enhanced", "suffix"]
    assert [m.name for m in parse(["random", "plain"])] == ["random", "plain"]
    assert parse.loaded == []  # nothing is loaded before it is used


def test_plain_is_the_prompt_as_it_is(parse):
    assert parse("plain")[0](PROMPTS) == PROMPTS


def test_enhanced_is_the_embedded_policy_and_is_loaded_once(parse, enhancer):
    enhanced, by_name = parse("enhanced,policy:embedded", seed=3)
    results = enhanced(PROMPTS)
    assert results == [e.text for e in enhancer(PROMPTS, seed=3, num_beams=2, max_new_tokens=16)]
    assert by_name(PROMPTS) == results
    assert parse.loaded == ["embedded"]
    parse("policy:embedded-ppo")[0](PROMPTS)
    assert parse.loaded == ["embedded", "embedded-ppo"]


def test_where_the_embedded_generator_draws_the_policy_that_ppo_tuned_to_it_writes(parse, reward):
    other = reward.replace()
    other.generator = SimpleNamespace(name="stabilityai/sd-turbo")
    for judge, policy in ((None, "embedded"), (other, "embedded"), (reward, "embedded-ppo")):
        assert [m.settings["policy"] for m in parse("enhanced", reward=judge)] == [policy]


def test_any_policy_by_folder():
    folder = locate("embedded", "policy")
    method = parse_methods(f"policy:{folder}", num_beams=1, max_new_tokens=8, device="cpu")[0]
    assert method.name == f"policy:{folder}"
    assert method(["a castle"])[0].startswith("a castle, ")


@pytest.mark.parametrize("name", ["suffix", "random"])
@pytest.mark.parametrize("window", [77, 20])
def test_baselines_add_whole_modifiers_none_twice_inside_the_window(parse, name, window):
    for prompt, text in zip(PROMPTS, parse(name, window=window)[0](PROMPTS), strict=True):
        assert text.startswith(prompt) and len(text) > len(prompt)
        assert count_clip_tokens(text) <= window
        keys = [modifier_key(s) for s in Prompt.parse(text).segments]
        assert len(keys) == len(set(keys))
    assert parse(name, window=6)[0](["a castle on a high hill"]) == ["a castle on a high hill"]


def test_the_suffix_is_the_same_for_all(parse):
    added = [text.removeprefix("a cat").removeprefix("a dog") for text in parse("suffix")[0](["a cat", "a dog"])]
    assert added[0] == added[1]
    assert Prompt.parse(added[0]).segments[:3] == ("trending on artstation", "highly detailed", "concept art")
    assert len(Prompt.parse(added[0]).segments) == 10


def test_random_modifiers_belong_to_prompt_and_seed(parse):
    prompts = [f"a {animal}" for animal in ("cat", "dog", "owl", "fox")]
    texts = parse("random", seed=1)[0](prompts)
    assert [parse("random", seed=1)[0]([p])[0] for p in reversed(prompts)] == texts[::-1]
    assert parse("random", seed=2)[0](prompts) != texts
    assert len({t.partition(",")[2] for t in texts}) == len(texts)


def test_frequent_modifiers_are_drawn_more_often(parse):
    texts = parse("random")[0]([f"picture {i}" for i in range(200)])
    drawn = [s for t in texts for s in Prompt.parse(t).segments[1:]]
    assert drawn.count("trending on artstation") > drawn.count("oil painting") > drawn.count("matte painting") > 0
    assert 9 < len(drawn) / len(texts) <= 10


def test_written_prompts(parse, tmp_path):
    path = tmp_path / "human.txt"
    path.write_text("a rider at dawn\n\na keep\n", encoding="utf-8")
    method = parse(f"plain,file:{path}")[1]
    assert method(["boy on a horse", "a castle"]) == ["a rider at dawn", "a keep"]
    with pytest.raises(ValueError, match="has 2 prompts for 1 plain one: one"):
        method(["boy on a horse"])
    (tmp_path / "made.jsonl").write_text('{"original": "a castle", "text": "a castle, 8k"}\n')  # by `enhance`
    assert parse(f"plain,file:{tmp_path / 'made.jsonl'}")[1](["a castle"]) == ["a castle, 8k"]
    broken = tmp_path / "human.jsonl"
    broken.write_text('{"prompt": "a keep"}\n{"text": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"human\.jsonl, line 2: no \"prompt\""):
        parse(f"file:{broken}")
    with pytest.raises(ValueError, match="cannot read"):
        parse(f"file:{tmp_path / 'none.txt'}")


def test_a_suffix_of_a_file(parse, tmp_path):
    (tmp_path / "suffix.txt").write_text("octane render, soft light, monet\n")
    name = f"suffix:{tmp_path / 'suffix.txt'}"
    (method,) = parse(name)
    assert method.name == name and method.settings["suffix"] == ["octane render", "soft light", "monet"]
    texts = method(["a cat", "a castle, Octane Render", "an owl, "])
    assert texts[0] == "a cat, octane render, soft light, monet"
    assert texts[1] == "a castle, Octane Render, soft light, monet"
    assert texts[2] == "an owl, octane render, soft light, monet"
    assert parse(name, window=7)[0](["a cat"]) == ["a cat, octane render"]
    with pytest.raises(ValueError, match="cannot read the suffix"):
        parse(f"suffix:{tmp_path / 'none.txt'}")


@given(st.integers(2, 200), st.integers(0, 2**40))
def test_a_derangement_gives_everything_away_once_and_nothing_back(count, seed):
    order = derangement(count, seed)
    assert sorted(order) == list(range(count)) and all(i != giver for i, giver in enumerate(order))
    assert order == derangement(count, seed)


@pytest.fixture
def written(tmp_path):
    """Prompts, and a file method of texts that continue them, each by a tail of its own."""
    prompts = [*PROMPTS, "an owl", "a cat, 8k"]
    tails = [", soft light", ", hdr, 8k", "octane render", ", by monet, ink", "", ", 4k, sharp focus, Octane Render"]
    (tmp_path / "mine.txt").write_text("".join(f"{p}{t}\n" for p, t in zip(prompts, tails, strict=True)), "utf-8")
    return prompts, tails, f"file:{tmp_path / 'mine.txt'}"


@pytest.mark.parametrize("seed", range(4))
def test_swapped_tails_are_those_of_other_prompts(parse, written, seed):
    prompts, tails, name = written
    (method,) = parse(f"swapped:{name}", seed=seed)
    assert method.whole
    for prompt, text, giver in zip(prompts, method(prompts), derangement(6, seed), strict=True):
        assert text.startswith(prompt)
        segments = [modifier_key(s) for s in Prompt.parse(text).segments]
        assert len(segments) == len(set(segments))  # what the prompt says is not said again
        given_away = {modifier_key(s) for s in Prompt.parse(tails[giver]).segments}
        assert set(segments) == {modifier_key(s) for s in Prompt.parse(prompt).segments} | given_away
    assert parse(f"swapped:{name}", seed=seed + 1)[0](prompts) != method(prompts)


def test_a_tail_is_set_behind_another_prompt_as_it_was_written(parse, tmp_path):
    prompts, path = ["robot playing guitar, ", "a fox"], tmp_path / "two.txt"
    path.write_text("robot playing guitar, hdr; 8k\na fox by monet, ink\n")
    swapped = parse(f"swapped:file:{path}")[0](prompts)
    assert swapped == ["robot playing guitar, by monet, ink", "a fox, hdr; 8k"]
    with pytest.raises(ValueError, match="takes two of them, and there are 1"):
        path.write_text("a fox, ink\n")
        parse(f"swapped:file:{path}")[0](["a fox"])


@pytest.mark.parametrize("kind", ["swapped", "random"])
def test_texts_that_replace_the_prompt_have_no_tails(parse, tmp_path, kind):
    (tmp_path / "told.txt").write_text("a fox, ink\na keep on a hill\n")
    with pytest.raises(ValueError, match="'a keep on a hill' does not begin with its prompt, 'a castle'"):
        parse(f"{kind}:file:{tmp_path / 'told.txt'}")[0](["a fox", "a castle"])


def test_random_modifiers_as_many_as_another_method_writes(parse, written):
    prompts, tails, name = written
    alike, swapped = parse(f"random:{name},swapped:random:{name}")
    assert not alike.whole and swapped.whole
    for prompt, tail, text in zip(prompts, tails, alike(prompts), strict=True):
        added = Prompt.parse(text[len(prompt) :]).segments
        assert text.startswith(prompt) and len(added) == len(Prompt.parse(tail).segments)
        assert not {*map(modifier_key, added)} & {modifier_key(s) for s in Prompt.parse(prompt).segments}
    assert write([alike, swapped], prompts)[0] == alike(prompts)


def test_what_others_are_made_of_is_asked_once_and_its_constraints_are_theirs(parse, enhancer, monkeypatch):
    asked, rewrite = [], type(enhancer).rewrite

    def counted(self, prompts, *rest, **settings):
        asked.extend(prompts)
        return rewrite(self, prompts, *rest, **settings)

    monkeypatch.setattr(type(enhancer), "rewrite", counted)
    prompts = PROMPTS[:2]
    names = ["policy:embedded", "swapped:policy:embedded", "random:policy:embedded"]
    own, swapped, _ = write(parse(names), prompts)
    assert asked == prompts and parse.loaded == ["embedded"]
    for prompt, text, other, owner in zip(prompts, swapped, reversed(own), reversed(prompts), strict=True):
        tail = Prompt.parse(other[len(owner) :]).segments
        assert set(Prompt.parse(text[len(prompt) :]).segments) <= set(tail) and text.startswith(prompt)
    obeying, free = parse("swapped:policy:embedded+constraints,swapped:policy:embedded", WISH)
    assert obeying.constraints is obeying.of.constraints is WISH and free.constraints is None
    assert obeying.settings["of"]["method"] == "policy:embedded+constraints"
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        parse("swapped:magic")


@pytest.fixture(scope="module")
def reward():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)
    rewards = load_rewards("pickscore:1.0,aesthetic:0.25", model="embedded", device="cpu")
    return PromptReward(generator, rewards, images_per_prompt=2)


def test_the_best_of_several_samples_by_pictures_of_its_own(parse, enhancer, reward):
    prompts, settings = PROMPTS[:2], {"seed": 3, "num_beams": 2, "max_new_tokens": 16}
    best, single = parse("best-of-3,best-of-1", seed=3, reward=reward)
    chosen = best(prompts)
    settings["temperature"] = TEMPERATURE  # wider than a policy's own
    samples = enhancer(prompts, num_return_sequences=3, do_sample=True, **settings)
    other = PromptReward(
        reward.generator, reward.rewards, relative="none", images_per_prompt=1, seed=~reward.seed
    )  # what is chosen by, from the outside
    for prompt, of, text in zip(prompts, samples, chosen, strict=True):
        texts = [e.text for e in of]
        scores = other.score([prompt] * 3, texts)
        assert text == texts[int(np.argmax(scores))]
        assert not set(other.seeds(prompt)) & set(reward.seeds(prompt))
    assert single(prompts) == [e.text for e in enhancer(prompts, do_sample=True, **settings)]
    assert reward.seed == 0 and reward.images_per_prompt == 2 and reward.relative  # the caller's is as it was


def test_what_pictures_choose_from_are_samples_of_the_policy_before_ppo(parse, reward):
    methods = parse("best-of-3,search-6,best-of-3:embedded-ppo,enhanced", reward=reward)
    assert [m.settings["policy"] for m in methods] == ["embedded", "embedded", "embedded-ppo", "embedded-ppo"]
    methods[0](PROMPTS[:1])
    assert parse.loaded == ["embedded"]


def test_a_prompt_is_checked_before_anything_is_loaded(parse):
    for method in parse("plain,enhanced", WISH):
        with pytest.raises(ValueError, match="the prompt is empty"):
            method.check(["a cat", " "])
    with pytest.raises(ConstraintError, match="forbidden"):
        method(["a blurry castle"])
    assert parse.loaded == []


def test_the_best_sample_obeys_constraints(parse, reward):
    assert all(check(text, WISH) for text in parse("best-of-2+constraints", WISH, reward=reward)[0](PROMPTS[:2]))


def test_a_search_with_pictures_of_its_own(parse, enhancer, reward):
    prompts = PROMPTS[:1]
    found = parse("search-6+constraints", WISH, seed=3, reward=reward)[0](prompts)
    config = SearchConfig(budget=6, held_out=0, seed=3)
    assert found == [r.text for r in optimize(prompts, reward, enhancer, config, constraints=WISH)]
    assert all(check(text, WISH) for text in found)


def test_settings_tell_methods_apart(parse, tmp_path):
    path = tmp_path / "human.txt"
    path.write_text("a rider\n")
    specs = f"plain,suffix,random,enhanced,enhanced+constraints,file:{path}"
    methods = parse(specs, WISH, seed=1)
    assert [m.whole for m in methods] == [False] * 5 + [True]
    assert [bool(m.constraints) for m in methods] == [False] * 4 + [True, False]
    again = parse(specs, WISH, seed=1)
    assert [m.settings for m in methods] == [m.settings for m in again]
    path.write_text("a keep\n")
    other = parse(specs, Constraints(artist="alphonse mucha"), seed=2)
    assert [m.settings == n.settings for m, n in zip(methods, other, strict=True)] == [True, True] + [False] * 4
    folder = shutil.copytree(locate("embedded", "policy"), tmp_path / "policy")
    before = parse(f"policy:{folder}")[0].settings
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert parse(f"policy:{folder}")[0].settings != before  # trained on in the same folder


def test_loading_is_apart_from_rewriting(parse):
    method = parse("enhanced")[0]
    method.prepare()
    assert parse.loaded == ["embedded"]
    method(["a cat"])
    assert parse.loaded == ["embedded"]


def test_constraints_go_to_those_who_are_marked(parse):
    free, bound = parse("enhanced,enhanced+constraints", WISH)
    assert all(check(text, WISH) for text in bound(PROMPTS))
    assert free(PROMPTS) == parse("enhanced")[0](PROMPTS)
    assert parse.loaded == ["embedded", "embedded"]  # once in each call of parse


def test_where_none_is_marked_all_policies_obey(parse):
    plain, enhanced = parse("plain,enhanced", WISH)
    assert plain(PROMPTS) == PROMPTS
    assert all(check(text, WISH) for text in enhanced(PROMPTS))


def test_what_is_wrong_is_one_line(parse, tmp_path):
    for specs, constraints, message in [
        ("plane", None, "unknown method 'plane': choose from " + ", ".join(METHODS)),
        ("plain,", None, "unknown method ''"),
        ("", None, "no method is given"),
        ("file:", None, "unknown method 'file:'"),
        ("policy:", None, "unknown method 'policy:'"),
        ("plain,sft", None, "the method 'sft' is called policy:embedded now"),
        ("ppo+constraints", WISH, "the method 'ppo+constraints' is called policy:embedded-ppo+constraints now"),
        ("plain,suffix,plain", None, "'plain' is given twice"),
        ("plain+constraints", WISH, "only policies take constraints, and 'plain' is none"),
        ("enhanced+constraints", None, "no constraints are given"),
        ("plain,suffix", WISH, "none of plain, suffix is a policy"),
        ("best-of-4", None, "pictures choose here, by a reward, and there is none"),
        ("search-8", None, "pictures choose here, by a reward, and there is none"),
        ("search-2", None, "the original's pictures are 2 of the budget"),
        ("search-x", None, "unknown method 'search-x'"),
        ("best-of-0", None, "at least 1 sample"),
        ("best-of-many", None, "unknown method 'best-of-many'"),
        ("best-of-4:", None, "unknown method 'best-of-4:'"),
        ("template:", None, "unknown method 'template:'"),
    ]:
        with pytest.raises(ValueError) as caught:
            parse(specs, constraints)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    for policy in ("./nowhere", tmp_path, "embedded-none", "embedded-sft"):
        with pytest.raises(ModelError):
            parse(f"best-of-2:{policy}")
        with pytest.raises(ModelError):
            parse(f"policy:{policy}")
    for name in ("plain", "suffix", "random"):
        with pytest.raises(ValueError, match="the prompt is empty"):
            parse(name)[0](["a cat", " "])
    with pytest.raises(ConstraintError, match="forbidden"):
        parse("enhanced", WISH)[0](["a blurry castle"])


class Half:
    """A gate that lets every other rewrite pass."""

    def __init__(self, generator):
        self.reward = SimpleNamespace(generator=generator)

    def __call__(self, originals, texts, negatives):
        assert negatives == [None] * len(texts)
        chosen = [(text, i % 2 == 0) for i, text in enumerate(texts)]
        return [
            Verdict(passed, text if passed else original, "as told")
            for original, (text, passed) in zip(originals, chosen, strict=True)
        ]


def test_a_gate_stands_behind_what_rewrites():
    gate = Half(None)
    free, gated = parse_methods("suffix,suffix+gate", gate=gate)
    prompts = ["a castle", "a red fox"]
    assert gated(prompts) == [free(prompts)[0], "a red fox"] and gated.rewrite(prompts) == free(prompts)
    both = parse_methods(
        "policy:embedded+constraints+gate,policy:embedded+gate", Constraints(require=["fog"]), gate=gate
    )
    assert [bool(method.constraints) for method in both] == [True, False]
    for specs, words in (("plain+gate", "plain prompts come back"), ("suffix+gate+constraints", "only policies")):
        with pytest.raises(ValueError, match=words):
            parse_methods(specs, gate=gate)
    with pytest.raises(ValueError, match="there is no gate"):
        parse_methods("suffix+gate")


def test_the_regret_is_beside_the_better_of_the_two():
    rewards = {"plain": np.array([[0.0], [2.0]]), "a": np.array([[1.0], [0.0]]), "a+gate": np.array([[0.0], [2.0]])}
    facts = [{"accepted": False, "pictures": 3}, {"accepted": False, "pictures": 1}]
    found = gate_numbers("a+gate", facts, rewards)
    assert (found["accepted"], found["pictures"]) == (0.0, 4.0)
    assert {choice: interval["mean"] for choice, interval in found["regret"].items()} == {
        "always": 1.0,
        "never": 0.5,
        "gate": 0.5,
    }
    assert gate_numbers("a+gate", facts, {"a+gate": rewards["a+gate"]})["regret"] is None
    assert gate_numbers("a", [], rewards) is None

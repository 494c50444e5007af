import json

import pytest
from datasets import Dataset, DatasetDict

from neuroprompt.data import (
    DataConfig,
    PromptData,
    check_folder,
    check_said,
    clean,
    cut_points,
    data_card,
    is_plain,
    prepare,
    read_prompts,
    split_of,
)
from neuroprompt.degrading import content_words

EXPERTS = [
    f"{subject}, {style}, {extra}"
    for subject in ["a red fox in the snow", "portrait of a sailor", "a steam train", "the old lighthouse at dusk"]
    for style in [
        "oil painting, highly detailed, by alphonse mucha",
        "digital art, sharp focus, 8k",
        "watercolor, cinematic lighting",
    ]
    for extra in ["octane render", "trending on artstation", "wide angle"]
]
PLAIN = ["a boy riding a horse", "two dogs in the park", "an old house on a hill"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(
        "\n".join(EXPERTS + PLAIN + ["naked woman, oil painting, 8k", "ein hund und eine katze spielen im garten"])
    )
    return path


def config(source, **changes):
    return DataConfig(source=str(source), **{"num_proc": 1, "near_duplicate": 0.95, "max_per_prefix": 100, **changes})


def test_pairs_join_to_the_expert_prompt_and_keep_modifiers(source):
    data = prepare(config(source, mend=False))
    rows = [r for split in data.pairs.values() for r in split]
    assert {r["prompt"] + r["completion"] for r in rows} == set(EXPERTS)
    for row in rows:
        assert row["completion"].startswith((", ", " by "))
        assert row["prompt"] == row["prompt"].strip()
    assert {p for split in data.plain.values() for p in split["prompt"]} == set(PLAIN)


def test_targets_are_mended_unless_one_says_no(source):
    rows = [row for split in prepare(config(source)).pairs.values() for row in split]
    experts = [set(expert.split(", ")) for expert in EXPERTS]
    texts = {row["prompt"] + row["completion"] for row in rows}
    assert texts and all(any(set(text.split(", ")) <= expert for expert in experts) for text in texts)
    assert not texts <= set(EXPERTS)
    assert not any("watercolor" in r["completion"] and "octane" in r["completion"] for r in rows)
    assert {row["medium"] for row in rows} == {"paint", "digital"}
    enough = prepare(config(source, min_modifiers=4))
    assert all(r["completion"].count(",") >= 4 for split in enough.pairs.values() for r in split)
    assert enough.modifiers["kept"] > enough.modifiers["contradiction"] > 0
    assert f"| {enough.modifiers['contradiction']:,} |" in data_card(enough, config(source))
    with pytest.raises(ValueError, match="artists is 'some'"):
        prepare(config(source, artists="some"))


def test_prompts_about_celebrities_and_cut_off_subjects_are_not_learnt(source):
    with source.open("a") as file:
        file.write(
            "\nportrait of elon musk, digital art, sharp focus\nemma watson on a horse\nelon musk riding a horse\n"
        )
    data = prepare(config(source))
    prompts = [p for kind in (data.pairs, data.plain) for split in kind.values() for p in split["prompt"]]
    assert prompts and not any("musk" in p or "watson" in p for p in prompts)
    kept = prepare(config(source, mend=False))
    assert "elon musk riding a horse" in [p for split in kept.plain.values() for p in split["prompt"]]


def test_save_load_and_data_card(source, tmp_path):
    settings = config(source, mend=False)
    data = prepare(settings)
    data.save(tmp_path / "out", settings)
    again = PromptData.load(tmp_path / "out")
    assert again.counts == data.counts and again.modifiers == data.modifiers
    assert again.pairs["train"][:] == data.pairs["train"][:]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| pairs | {len(EXPERTS)} |" in card
    assert str(tmp_path) not in card
    assert not (tmp_path / "out.part").exists()


def test_every_format_is_read(tmp_path):
    rows = {"Prompt": ["a cat", "a dog"], "prompt_nsfw": [0.1, 0.9]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    Dataset.from_dict(rows).to_csv(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": p}) for p in rows["Prompt"]))
    (tmp_path / "a.txt").write_text("a cat\na dog\n")
    for name in ["a.parquet", "a.csv", "a.jsonl", "a.txt"]:
        assert read_prompts(DataConfig(source=str(tmp_path / name)))["prompt"][:] == rows["Prompt"], name
    assert read_prompts(DataConfig(source=str(tmp_path / "a.parquet")))["nsfw"][:] == rows["prompt_nsfw"]


def test_adult_score_of_the_source_is_used(tmp_path):
    Dataset.from_dict({"prompt": EXPERTS, "prompt_nsfw": [0.9] + [0.0] * (len(EXPERTS) - 1)}).to_parquet(
        tmp_path / "a.parquet"
    )
    data = prepare(config(tmp_path / "a.parquet"))
    assert data.counts["clean text, English, 2+ words, fits CLIP"] == len(EXPERTS) - 1


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_prompts(DataConfig(source=str(tmp_path / "none.parquet")))
    Dataset.from_dict({"image": ["x"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column prompt or Prompt"):
        read_prompts(DataConfig(source=str(tmp_path / "a.parquet")))
    (tmp_path / "plain.txt").write_text("\n".join(PLAIN))
    with pytest.raises(ValueError, match="nothing to learn from"):
        prepare(config(tmp_path / "plain.txt"))
    with pytest.raises(FileNotFoundError, match="prepare_data"):
        PromptData.load(tmp_path / "nowhere")


def test_decontamination(source, tmp_path):
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text("A red fox in the snow\na steam\nThe old lighthouse\n")
    data = prepare(config(source, evaluation_files=[str(evaluation)]))
    texts = " ".join(r["prompt"] for split in data.pairs.values() for r in split)
    assert "fox" not in texts  # extends a prompt of four words and more
    assert "steam train" in texts  # "a steam" is no whole clause of it
    assert "lighthouse" in texts


def test_caps(source):
    data = prepare(config(source, max_per_prefix=2))
    assert data.counts["at most 2 per six-word prefix"] < data.counts["no exact duplicates"]
    tails = prepare(config(source, max_per_tail=1))
    assert tails.counts["pairs"] < len(EXPERTS) / 2


def test_near_duplicates_go(tmp_path):
    long = (
        "portrait of an old sailor with a grey beard looking at the sea, oil painting, highly detailed, sharp focus, 8k"
    )
    (tmp_path / "a.txt").write_text("\n".join([long, long.replace("grey", "white"), *EXPERTS]))
    data = prepare(config(tmp_path / "a.txt", near_duplicate=0.8))
    texts = [r["prompt"] + r["completion"] for split in data.pairs.values() for r in split]
    assert sum("beard" in t for t in texts) == 1


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a castle ,  highly detailed --ar 16:9", "a castle, highly detailed"),
        ("a castle, 8k, 8K, sharp focus", "a castle, 8k, sharp focus"),
        ("a ca\u0000stle, oil painting.", "a ca stle, oil painting"),
        ("the cafÃ© in paris, photo", "the café in paris, photo"),
        ("[a castle on a hill, 4k]", "a castle on a hill, 4k"),
        ("nude woman on a beach", None),
        ("замок на холме", None),
        ("1234 5678 !!!!", None),
        ("ein schloss auf dem berg im nebel mit einem drachen", None),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned


def test_cuts_stand_before_separators_and_leave_modifiers():
    text = "a castle on a hill, dark clouds above it, oil painting, highly detailed, by alphonse mucha"
    early, late = cut_points(text)
    assert [text[:c] for c in early] == ["a castle on a hill", "a castle on a hill, dark clouds above it"]
    assert [text[:c] for c in late] == ["a castle on a hill, dark clouds above it, oil painting"]
    assert cut_points("a castle on a hill, oil painting") == ([], [])
    text = "a castle by alphonse mucha, oil painting"
    assert [text[:c] for c in cut_points(text)[0]] == ["a castle"]


def test_plain_prompts():
    assert is_plain("a boy riding a horse")
    assert not is_plain("a boy")
    assert not is_plain("a boy riding a horse, oil painting")
    assert not is_plain("a boy riding a horse by alphonse mucha")
    assert is_plain("a house by the sea")


def test_splits_depend_on_the_first_words_alone():
    assert split_of("a red fox in the snow") == split_of("A red fox in the rain, oil painting")
    shares = [split_of(f"subject number {i} here") for i in range(20_000)]
    assert 0.007 < shares.count("validation") / len(shares) < 0.013
    assert 0.007 < shares.count("test") / len(shares) < 0.013


def test_saving_replaces_prepared_data_alone(source, tmp_path):
    data, folder = prepare(config(source)), tmp_path / "data" / "mine"
    data.save(folder, config(source))
    (folder / "note.txt").touch()
    (tmp_path / "data" / ".mine.part").mkdir()  # of a killed run
    data.save(folder, config(source))
    assert not (folder / "note.txt").exists() and PromptData.load(folder).counts == data.counts
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]

    other = tmp_path / "home"
    other.mkdir()
    (other / "letters.txt").touch()
    for place in (other, other / "letters.txt"):
        with pytest.raises(ValueError, match="is no prepared data, which could be replaced"):
            data.save(place, config(source))
    assert (other / "letters.txt").exists()
    (folder / "more.parquet").touch()
    with pytest.raises(ValueError, match=r"more\.parquet is in .*mine, which would be replaced"):
        check_folder(folder, [folder / "more.parquet"])
    (folder / "config.json").write_text('{"coun')
    with pytest.raises(ValueError, match=r"config\.json is none of prepared data"):
        PromptData.load(folder)


def rows_of(splits):
    return [row for split in splits.values() for row in split]


def test_to_retell_plain_prompts_are_made_of_whole_expert_prompts(tmp_path):
    subjects = [
        f"{who} {what} a {where}"
        for who in ("a red fox", "an old sailor", "two blue robots")
        for what in ("sleeping under", "standing on")
        for where in ("stone bridge", "steep cliff", "wooden boat")
    ]
    prose = [f"An oil painting of {subject}, in soft light. The mood is calm." for subject in subjects]
    (tmp_path / "prose.txt").write_text(
        "\n".join([*prose, "A photo of emma watson on a hill, in soft light.", *EXPERTS])
    )
    settings = config(tmp_path / "prose.txt", format="retell")
    data = prepare(settings)
    rows = rows_of(data.pairs)
    assert set(data.pairs["train"].column_names) == {"prompt", "completion"}
    assert set(prose) <= {row["completion"] for row in rows} <= {*prose, *EXPERTS}
    for row in rows:  # by words alone, not as the rule is written
        assert set(content_words(row["prompt"])) <= set(content_words(row["completion"])), row
    assert {row["prompt"] for row in rows} == {row["prompt"] for row in rows_of(data.plain)}
    assert not any("artstation" in row["completion"] for row in rows)  # a site, and what is whole cannot be mended
    data.save(tmp_path / "out", settings)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["format"] == "retell"
    assert f"→ **{rows[0]['completion']}**" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="format is 'rewrite': give one of continue, retell"):
        prepare(config(tmp_path / "prose.txt", format="rewrite"))


def test_no_expert_prompt_and_no_plain_one_is_in_two_splits(tmp_path):
    nouns = "fox cat dog owl bear wolf horse crow robot sailor witch king nurse ship train castle tower tree".split()
    prose = [
        f"A {noun} on a {place}, seen in a {light} light. The air is cold and still."
        for noun in nouns
        for place in ("hill", "bridge", "boat", "roof", "beach")
        for light in ("soft", "warm")
    ]
    (tmp_path / "prose.txt").write_text("\n".join(prose))
    data = prepare(config(tmp_path / "prose.txt", format="retell", near_duplicate=1.0))
    assert len(data.pairs) > 1
    for column in ("prompt", "completion"):
        splits = [set(split[column]) for split in data.pairs.values()]
        assert sum(map(len, splits)) == len(set.union(*splits))


@pytest.mark.parametrize(("short", "long"), [("short", "long"), ("prompt", "text")])
def test_pairs_of_the_user_are_taken_as_they_are_and_must_keep_the_rule(tmp_path, short, long):
    pairs = [
        ("two foxes, bridge", "Under a BRIDGE, in the fog, two foxes are asleep!"),
        ("naked tree", "A naked tree stands on a hill, by greg rutkowski"),
        ("red fox", "A fox is asleep."),
        ("a fox", "A fox"),
        ("a boat at sea", "A boat at sea, far from the coast, in heavy rain."),
    ]
    Dataset.from_dict({short: [p for p, _ in pairs], long: [t for _, t in pairs]}).to_csv(tmp_path / "own.csv")
    (tmp_path / "evaluation.txt").write_text("a boat at sea\n")
    data = prepare(config(tmp_path / "own.csv", format="retell", evaluation_files=[str(tmp_path / "evaluation.txt")]))
    assert {(row["prompt"], row["completion"]) for row in rows_of(data.pairs)} == set(pairs[:2])
    assert data.counts["read"] == 5 and data.counts["pairs whose long text says all of the short one, and more"] == 3


def test_a_data_set_that_leaves_words_out_is_refused():
    pairs = {"prompt": ["a fox", "a red fox"], "completion": ["A fox at dawn.", "A fox at dawn."]}
    with pytest.raises(ValueError, match=r"train pair 1: 'red' of 'a red fox' is not in 'A fox at dawn\."):
        check_said(DatasetDict(train=Dataset.from_dict(pairs)))


def test_rules_that_have_changed_are_followed(source, monkeypatch):
    """`datasets` keeps what a step made, and knows nothing of rules that stand in another module."""
    prepare(config(source))
    monkeypatch.setattr("neuroprompt.targets.MAX_MODIFIERS", 2)
    rows = [row for split in prepare(config(source)).pairs.values() for row in split]
    assert rows and all(row["completion"].count(",") <= 2 for row in rows)

"""An experiment's folder: whole units after any kill, whoever did them, and what today's version began."""

import json
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprompt.experiments import (
    Experiment,
    check_settings,
    hold_shard,
    read_settings,
    results_head,
    settings_difference,
    write_results,
)
from neuroprompt.files import BusyError
from neuroprompt.pages.tables import Table


def plan(size, total):
    """Units of `size` records, and the records."""
    units = {start: min(size, total - start) for start in range(0, total, size)}
    records = {start: [record(i) for i in range(start, start + count)] for start, count in units.items()}
    return units, records


def record(i):
    return {"index": i, "text": "ä\n\u2028\r" * (i % 3)}


def lines(records):
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 20), st.data())
def test_a_file_keeps_its_whole_units(size, total, data):
    units, records = plan(size, total)
    written = lines(chain.from_iterable(records.values()))
    cut = data.draw(st.integers(0, len(written)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        path.write_bytes(written[:cut])
        whole = written[:cut].count(b"\n")
        kept = total if whole == total else whole // size * size
        experiment = Experiment(folder, units)
        assert experiment.missing() == list(range(kept, total, size))
        with experiment.shard() as shard:
            assert path.read_bytes().count(b"\n") == kept
            assert shard.units == list(units) and shard.todo == experiment.missing()
            for unit in shard.todo:
                shard.write(records[unit])
                assert unit not in experiment.missing()  # at once, for whoever looks
        assert path.read_bytes() == written
        assert list(experiment.records()) == list(chain.from_iterable(records.values()))


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 10**6))
def test_whoever_did_which_unit_the_records_are_the_same(size, total, seed):
    """Shards of any number, killed and taken up by others, in one folder; gathered in between or not."""
    rng = random.Random(seed)
    units, records = plan(size, total)
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(folder, units)
        while experiment.missing():
            shards = rng.randint(1, 3)
            with experiment.shard((rng.randint(1, shards), shards)) as shard:
                for unit in shard.todo[: rng.randint(0, 3)]:
                    shard.write(records[unit])
            if rng.random() < 0.3:
                files = sorted(Path(folder).glob("records*.jsonl"))
                victim = rng.choice(files)
                victim.write_bytes(victim.read_bytes()[: rng.randint(0, 2000)])
            if rng.random() < 0.3:
                experiment.gather()  # does nothing yet
        wanted = list(chain.from_iterable(records.values()))
        assert list(experiment.records()) == wanted
        experiment.gather()
        assert [path.name for path in Path(folder).iterdir()] == ["records.jsonl"]
        assert Path(folder, "records.jsonl").read_bytes() == lines(wanted)
        assert list(experiment.records()) == wanted


def test_a_shard_has_one_writer_and_so_has_the_gathered_file(tmp_path):
    units, records = plan(2, 6)
    experiment = Experiment(tmp_path, units)

    def elsewhere(call):
        """In another thread, which is another process to the locks."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(call).result()

    def do(shard):
        with experiment.shard(shard) as part:
            for unit in part.todo:
                part.write(records[unit])

    with hold_shard(tmp_path, (1, 2)):
        with pytest.raises(BusyError, match=r"records-1-of-2\.jsonl is being written by process"):
            elsewhere(lambda: do((1, 2)))
        elsewhere(lambda: do((2, 2)))  # which is another one
    do((1, 2))
    with hold_shard(tmp_path), pytest.raises(BusyError, match=r"records\.jsonl is being written"):
        elsewhere(experiment.gather)
    elsewhere(experiment.gather)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0), (-1, 1)])
def test_there_is_no_such_shard(tmp_path, shard):
    with pytest.raises(ValueError, match=f"there is no shard {shard[0]}/{shard[1]}"), hold_shard(tmp_path / "a", shard):
        pass
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("line", [b"\0\0\0", b"{}", b"[]", b"7", b'{"index": [0]}', b'{"index": 1}', b"\xff"])
def test_a_broken_line_is_named(tmp_path, line):
    """Which no kill leaves: a power cut may, or a hand."""
    units, records = plan(2, 6)
    experiment = Experiment(tmp_path, units)
    (tmp_path / "records.jsonl").write_bytes(lines(records[0]) + line + b"\n")
    for read in (experiment.missing, lambda: list(experiment.records()), lambda: experiment.shard().__enter__()):
        with pytest.raises(ValueError, match=r"records\.jsonl, line 3 is broken \(.*cut the file off before it"):
            read()


def test_a_folder_takes_up_its_own_settings_only(tmp_path):
    was = {"prompts": {"count": 3}, "rewards": {"a": {"weight": 1.0}, "b": {}}, "seed": 0}
    check_settings(tmp_path / "new", was, "study")
    check_settings(tmp_path / "new", was, "study")
    assert read_settings(tmp_path / "new", "study") == was
    with pytest.raises(ValueError) as caught:
        check_settings(tmp_path / "new", was | {"seed": 1}, "study")
    assert str(caught.value) == (
        f"{tmp_path / 'new'} holds another study: seed was 0, and now it is 1; give another folder, or remove this one"
    )
    for broken in ('{"seed": ', "[]", '{"generator": {"config": 7}}'):
        (tmp_path / "new" / "settings.json").write_text(broken)
        with pytest.raises(ValueError, match=r"settings\.json is broken: give another folder"):
            check_settings(tmp_path / "new", was, "study")
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"holds records and no settings\.json"):
        check_settings(tmp_path, was, "study")
    with pytest.raises(ValueError, match=r"holds no study: cannot read settings\.json"):
        read_settings(tmp_path / "nowhere", "study")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"prompts": {"count": 4}}, "prompts.count was 3, and now it is 4"),
        ({"rewards": {"a": {"weight": 1.0}}}, "rewards.b was {}, and now it is not there"),
        ({"more": 1}, "more was not there, and now it is 1"),
        ({"rewards": {"b": {}, "a": {"weight": 1.0}}}, "rewards are in another order"),
    ],
)
def test_the_first_difference_in_words(change, words):
    was = {"prompts": {"count": 3}, "rewards": {"a": {"weight": 1.0}, "b": {}}}
    assert settings_difference(was, was | change) == words


def test_results_are_written_for_programs_people_and_spreadsheets(tmp_path):
    results = results_head("study", {"seed": 0}) | {"prompts": 3}
    assert list(results)[:5] == ["kind", "neuroprompt", "commit", "versions", "settings"]
    table = Table("How <much>", "A note.", ["method", "reward"], [["plain", "0.0"]])
    write_results(tmp_path, results, "Ours & theirs", [table], [["name", "value"], ["=1+1", None], ["a, b", 0.5]])
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (
        (tmp_path / "table.md").read_text().startswith("# Ours \\& theirs\n\n## How \\<much\\>\n\nA note.\n\n| method")
    )
    assert (tmp_path / "results.csv").read_bytes() == b'name,value\r\n\'=1+1,\r\n"a, b",0.5\r\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_results(tmp_path, {"mean": float("nan")}, "", [], [])
    assert json.loads((tmp_path / "results.json").read_text()) == results

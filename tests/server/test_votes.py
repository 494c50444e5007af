"""Blind votes: twenty vote at once and nothing is mixed or lost, whatever becomes of the disk or a server; and nothing
that comes before a vote says which picture is which."""

import asyncio
import base64
import csv
import signal
import sqlite3
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import psutil
import pytest
import requests
from starlette.testclient import TestClient

from neuroprompt.cli.commands import app
from neuroprompt.server import votes as module
from neuroprompt.server.app import create_app
from neuroprompt.server.errors import Problem
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.votes import Duel, Votes, preferences, read_votes, win_rate
from tests.server.test_images import pixels
from tests.servers import run_server

FRONT = ("--generator", "none", "--rewards", "none", "--model", "/nonexistent", "--fallback", "plain")
CHOICES = ("left", "right", "tie")


def duel_of(prompt="a cat", side="left", **others):
    return Duel(**{"prompt": prompt, "rewrite": f"{prompt}, 8k", "seed": 7, "settings": "{}"}
                | {"policy": "p", "generator": "g", "side": side} | others)  # fmt: skip


def in_file(server):
    return {vote.duel.prompt: vote for vote in read_votes(server.votes)}


# --- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ballots(server):
    """Forty duels and their votes, by twenty people at once, every other vote by way of another server of the file,
    which is then killed: what each was sent and answered."""
    with run_server(*FRONT, NEUROPROMPT_VOTES=str(server.votes)) as other:

        def vote(number):
            here, there = (replace(one, session=requests.Session()) for one in (server, other))
            asked = {"prompt": f"the uzquz number {number}", "seed": number, "steps": 1}
            duel = here.post("/v1/duels", asked)
            cast = {"duel": duel.json()["id"], "choice": CHOICES[number % 3]}
            return asked, duel, cast, (there if number % 2 else here).post("/v1/votes", cast)

        with ThreadPoolExecutor(20) as pool:
            cast = [*pool.map(vote, range(40))]
        other.process.send_signal(signal.SIGKILL)
        assert other.process.wait(10) and "uzquz" not in other.log.read_text()
    return cast


def test_twenty_vote_at_once_and_nothing_is_mixed_or_lost(server, ballots):
    stored = in_file(server)
    generator = server.get("/info").json()["generator"]["fingerprint"]
    for asked, _, cast, answer in ballots:
        said = answer.json()
        assert answer.status_code == 200 and said["duel"] == cast["duel"] and said["choice"] == cast["choice"]
        assert said["prompt"] == asked["prompt"] and said["rewrite"].startswith(f"{asked['prompt']}, ")
        vote = stored[asked["prompt"]]
        assert (vote.choice, vote.duel.side, vote.duel.rewrite) == (said["choice"], said["side"], said["rewrite"])
        assert vote.duel.seed == said["seed"] == asked["seed"] and vote.duel.settings == '{"steps": 1}'
        assert vote.duel.generator == generator and vote.duel.policy == next(iter(stored.values())).duel.policy
    assert "uzquz" not in server.log.read_text() + server.get("/metrics").text


def chunks(png):
    """The names of a PNG's chunks."""
    data, at, found = base64.b64decode(png), 8, []
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        found.append(name.decode())
        at += 12 + length
    return found


def test_nothing_tells_before_the_vote(ballots):
    """Sides are drawn by lot, one as often as the other, and answers are alike but for the pictures."""
    sides = Counter(answer.json()["side"] for *_, answer in ballots)
    assert 8 <= sides["left"] <= 32  # otherwise once in 10,000 runs
    assert {tuple(duel.json()) for _, duel, *_ in ballots} == {("id", "left", "right")}
    assert len({tuple(duel.headers) for _, duel, *_ in ballots}) == 1
    for side in ("left", "right"):
        assert {tuple(chunks(duel.json()[side])) for _, duel, *_ in ballots} == {("IHDR", "IDAT", "IEND")}


def test_the_pictures_are_the_prompts_and_the_rewrites(server, ballots):
    for asked, duel, _, answer in ballots[:4]:
        said = answer.json()
        for side in ("left", "right"):
            body = asked | {"enhance": False, "prompt": said["rewrite" if side == said["side"] else "prompt"]}
            (drawn,) = server.post("/v1/images/generations", body).json()["data"]
            assert np.abs(pixels(duel.json()[side]) - pixels(drawn["b64_json"])).max() <= 1


def test_a_duel_has_one_vote(server, ballots):
    _, _, cast, answer = ballots[0]
    again = server.post("/v1/votes", cast | {"choice": "right"})
    assert again.status_code == 409 and again.json()["error"]["code"] == "voted_already"
    assert server.post("/v1/votes", cast | {"duel": "another"}).status_code == 404
    assert server.post("/v1/votes", cast | {"choice": "both"}).status_code == 422
    assert in_file(server)[answer.json()["prompt"]].choice == cast["choice"]


def test_what_cannot_be_compared_is_said(server):
    (same,) = {server.post("/v1/duels", {"prompt": "!!!"}).json()["error"]["code"]}
    assert same == "no_rewrite"
    assert server.post("/v1/duels", {"prompt": "a cat", "rewrite": "a dog"}).status_code == 422
    asked = {"prompt": "a cat", "constraints": {"style": "baroque"}, "size": "64x32", "seed": 3}
    duel = server.post("/v1/duels", asked).json()
    assert pixels(duel["left"]).shape == pixels(duel["right"]).shape == (32, 64, 3)
    assert "baroque" in server.post("/v1/votes", {"duel": duel["id"], "choice": "tie"}).json()["rewrite"]


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="this system sets no limits of another process")
def test_a_full_disk_is_said_and_nothing_is_half_written(server):
    duel = server.post("/v1/duels", {"prompt": "a full disk", "steps": 1}).json()
    cast = {"duel": duel["id"], "choice": "left"}
    front = psutil.Process(server.process.pid)
    before = front.rlimit(psutil.RLIMIT_FSIZE)
    front.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))  # the kernel refuses it every byte of a file
    try:
        refused = [server.post("/v1/votes", cast), server.post("/v1/duels", {"prompt": "another", "steps": 1})]
    finally:
        front.rlimit(psutil.RLIMIT_FSIZE, before)
    for answer in refused:
        assert answer.status_code == 507 and "nothing was stored" in answer.json()["error"]["message"]
    assert "a full disk" not in in_file(server)
    assert server.post("/v1/votes", cast).status_code == 200 and in_file(server)["a full disk"].choice == "left"
    with sqlite3.connect(server.votes) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_without_a_file_nobody_votes():
    client = TestClient(create_app(ServeSettings(generator="none", rewards="none")), "http://127.0.0.1")
    for path, body in (("duels", {"prompt": "a cat"}), ("votes", {"duel": "x", "choice": "tie"})):
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 404 and "start it with --votes" in answer.text
    assert client.get("/info").json()["votes"] is False


def test_a_fallbacks_rewrite_is_put_to_no_vote(tmp_path):
    """It would be taken for the policy's."""
    served = create_app(ServeSettings(fallback="suffix", votes=str(tmp_path / "votes.sqlite"), timeout=5))
    served.state.workers.parts["policy"].states = ["failed"]
    answer = TestClient(served, "http://127.0.0.1").post("/v1/duels", json={"prompt": "a cat"})
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "policy_unavailable"


# --- the file ----------------------------------------------------------------------------------------------------


def test_servers_share_a_file(tmp_path):
    """Eight at once, from the first moment on, at which each of them would make it."""
    path = tmp_path / "votes.sqlite"

    async def work(number):
        async def one(index):
            name = await votes.open(duel_of(f"{number} {index}", seed=index))
            return await votes.cast(name, CHOICES[index % 3])

        votes = Votes(path)
        done = await asyncio.gather(*map(one, range(10)))
        await votes.close()
        return done

    with ThreadPoolExecutor(8) as pool:
        done = [duel for duels in pool.map(lambda number: asyncio.run(work(number)), range(8)) for duel in duels]
    stored = [*read_votes(path)]
    assert len(stored) == 80 and {vote.duel for vote in stored} == set(done)
    assert all(vote.choice == CHOICES[vote.duel.seed % 3] for vote in stored)


def test_duels_that_nobody_votes_on_go_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN", 3)

    async def main():
        votes = Votes(tmp_path / "votes.sqlite")
        voted = await votes.open(duel_of("the voted one"))
        await votes.cast(voted, "left")
        names = [await votes.open(duel_of(f"{number}")) for number in range(5)]
        for name in names[:2]:
            with pytest.raises(Problem, match="no such duel") as error:
                await votes.cast(name, "left")
            assert error.value.status == 404
        await votes.cast(names[2], "left")
        monkeypatch.setattr(module, "DAYS", -1)  # all that there are have waited longer
        last = await votes.open(duel_of("the last"))
        with pytest.raises(Problem, match="no such duel"):
            await votes.cast(names[4], "left")
        await votes.cast(last, "left")
        await votes.close()

    asyncio.run(main())
    assert [vote.duel.prompt for vote in read_votes(tmp_path / "votes.sqlite")] == ["the voted one", "2", "the last"]


def other_program(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE scores (key)")


def other_version(path):
    asyncio.run(Votes(path).close())
    with closing(sqlite3.connect(path)) as database:  # else it is written whenever the connection is collected
        database.execute("PRAGMA user_version = 7")


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda path: path.write_bytes(b"a cat\n" * 1000),
            "cannot be read as a file of votes (file is not a database)",
        ),
        (other_program, "is no file of votes"),
        (other_version, "another version's (its user_version is 7, and this neuroprompt has 1)"),
    ],
)
def test_another_file_is_refused_at_the_start_and_stays_as_it_was(tmp_path, make, message):
    path = tmp_path / "votes.sqlite"
    make(path)
    before = path.read_bytes()
    for read in (lambda: create_app(ServeSettings(votes=str(path))), lambda: [*read_votes(path)]):
        with pytest.raises(ValueError) as error:
            read()
        assert message in str(error.value) and "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be_is_refused_at_the_start(tmp_path):
    for path, message in ((tmp_path, "unable to open database file"), (tmp_path / "no" / "file", "there is no folder")):
        with pytest.raises(ValueError, match=message):
            Votes(path)


# --- what it is for ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A file in which the rewrite has won 6 times and lost twice, and 4 were ties; of 6 prompts."""
    path = tmp_path_factory.mktemp("votes") / "votes.sqlite"

    async def main():
        votes = Votes(path)
        for number in range(12):
            end = "" if number % 6 else " ,"  # where the policy writes on is before that
            side, other = ("left", "right") if number % 2 else ("right", "left")
            duel = duel_of(f"=a “cat”\u2028{number % 6}{end}", side, seed=2**63 - 1 - number, settings='{"steps": 3}')
            await votes.cast(await votes.open(duel), "tie" if number % 3 == 0 else other if number > 9 else side)
        await votes.open(duel_of("that nobody votes on"))
        await votes.close()

    asyncio.run(main())
    return path


def export(capsys, *arguments):
    app(["votes", "export", *map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().err


def test_preferences_are_what_trl_reads(filled, tmp_path, capsys, enhancer):
    """Standard format with explicit prompts: a trainer joins prompt and completion, and so both texts are whole."""
    from datasets import load_dataset

    said = export(capsys, filled, "-o", tmp_path / "p.jsonl")
    assert "4 ties left out" in said and "the rewrite has 66.7% [" in said and "12 votes on 6 prompts" in said
    data = load_dataset("json", data_files=str(tmp_path / "p.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 8
    votes = [vote for vote in read_votes(filled) if vote.choice != "tie"]
    for row, vote in zip(data, votes, strict=True):
        texts = [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]
        won = vote.choice == vote.duel.side
        assert texts == [vote.duel.rewrite, vote.duel.prompt][:: 1 if won else -1] and row["tie"] is False
        assert (row["seed"], row["side"], row["settings"]) == (vote.duel.seed, vote.duel.side, '{"steps": 3}')
        assert row["policy"] == "p" and row["generator"] == "g"
        read = enhancer.tokenizer([row["prompt"], *texts])["input_ids"]
        assert all(ids[: len(read[0])] == read[0] for ids in read)  # the policy goes on where it does when it writes


def test_ties_on_request_and_for_a_spreadsheet(filled, tmp_path, capsys):
    assert "left out" not in export(capsys, filled, "-o", tmp_path / "p.csv", "--ties")
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 12 and Counter(row["tie"] for row in rows) == {"True": 4, "False": 8}
    assert all(row["prompt"].startswith("'=a “cat”") for row in rows)  # no formula
    assert {row["chosen"].strip(" ,") for row in rows if row["tie"] == "True"} == {"8k"}


def test_what_cannot_be_exported_is_said(filled, tmp_path, capsys):
    asyncio.run(Votes(tmp_path / "empty.sqlite").close())
    for arguments, message in (
        ((tmp_path / "none.sqlite", "-o", tmp_path / "p.jsonl"), "there is no file"),
        ((tmp_path / "empty.sqlite", "-o", tmp_path / "p.jsonl"), "holds no votes"),
        ((filled, "-o", tmp_path / "p.txt"), ".jsonl, .csv files"),
    ):
        with pytest.raises(ValueError, match=message):
            export(capsys, *arguments)
    assert not [*tmp_path.glob("p.*")]


def test_a_prompt_counts_once_however_many_vote_on_it(filled):
    votes = [*read_votes(filled)]
    few = [vote for vote in votes if vote.duel.prompt.endswith("0 ,")]
    assert win_rate(votes * 3) == win_rate(votes) and win_rate(votes).mean == pytest.approx(2 / 3)
    assert win_rate([*votes, *few * 50]).mean == pytest.approx(win_rate(votes).mean)
    assert win_rate(few).low is None and [*preferences([vote for vote in votes if vote.choice == "tie"])] == []

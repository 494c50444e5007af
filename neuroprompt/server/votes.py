"""Blind votes: which picture people prefer, the plain prompt's or the rewrite's, in one SQLite file.

    votes = Votes("votes.sqlite")
    name = await votes.open(Duel("boy on a horse", "boy on a horse, 8k", seed=7, side="left", …))
    await votes.cast(name, "right")                    # the Duel: now it may be said what was which
    preferences(read_votes("votes.sqlite"))            # records of prompt, chosen and rejected

A duel is kept when it is drawn, so that any server of the file can take its vote, and goes again where nobody votes:
of those the last `OPEN` stay, for `DAYS`. A vote is stored once, and acknowledged when it is on the disk. Nothing here
says who voted.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from neuroprompt.prompts import SEPARATORS
from neuroprompt.server.errors import Problem
from neuroprompt.statistics import Interval, bootstrap

Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie"]

OPEN, DAYS = 10_000, 1
"""Duels that wait for a vote, at most, and for how many days."""
VERSION = 1
"""Of the file's schema, as its ``user_version`` has it."""
PATIENCE = 10
"""Seconds that one server waits for another's transaction."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Duel:
    """Two pictures of one seed.

    Attributes:
        prompt: The user's text, which one was drawn of.
        rewrite: What the other was drawn of; it begins with `prompt`.
        settings: Of the drawing, where they are not the operator's, as JSON.
        policy: The fingerprint of what wrote the rewrite.
        generator: The fingerprint of what drew, with the operator's settings.
        side: Where the rewrite's picture is.
    """

    prompt: str
    rewrite: str
    seed: int
    settings: str
    policy: str
    generator: str
    side: Side


class Vote(NamedTuple):
    """What became of a duel, and when (seconds since 1970)."""

    duel: Duel
    choice: Choice
    time: int

    @property
    def worth(self) -> float:
        """To the rewrite: 1, half of it for a tie, or nothing."""
        return 0.5 if self.choice == "tie" else float(self.choice == self.duel.side)


class Votes:
    """A file of votes, which servers may share. One thread has the connection, and does what it is asked in turn.

    Args:
        path: The file; it is made where there is none.

    Raises:
        ValueError: It cannot be opened, or it is another file than of such votes.
    """

    def __init__(self, path: str | Path):
        self._thread = ThreadPoolExecutor(1, "votes")
        try:
            self._database = self._thread.submit(_open, path).result()
        except ValueError:
            self._thread.shutdown()
            raise

    async def open(self, duel: Duel) -> str:
        """Keep a duel, on which there can be a vote from now on, and give it a name that nobody guesses."""
        name = secrets.token_urlsafe(12)
        await self._do(lambda database: _insert(database, name, duel))
        return name

    async def cast(self, name: str, choice: Choice) -> Duel:
        """Store the vote on a duel, and say what the duel was.

        Raises:
            Problem: There is no such duel (404), it has its vote (409), or the vote cannot be stored (503, 507).
        """
        return await self._do(lambda database: _update(database, name, choice))

    async def close(self) -> None:
        """When all that was asked is done."""
        await self._do(sqlite3.Connection.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise Problem(503, "the file of votes is busy: nothing was stored", "votes_busy", 1) from None
            raise Problem(
                507, f"nothing was stored ({error}): ask again when there is room", "votes_full", 60
            ) from None


def read_votes(path: str | Path) -> Iterator[Vote]:
    """The votes of a file, in the order of their time; servers may go on meanwhile.

    Raises:
        ValueError: There is none, or it is another file than of such votes.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    with _reading(path), closing(_connect(path, "rw")) as database:
        _check(database, path)
        columns = ", ".join([*_COLUMNS, "choice", "voted"])
        for *duel, choice, voted in database.execute(
            f"SELECT {columns} FROM duels WHERE choice IS NOT NULL ORDER BY voted, rowid"
        ):
            yield Vote(Duel(*duel), choice, voted)


def preferences(votes: Iterable[Vote], ties: bool = False) -> Iterator[dict[str, Any]]:
    """Records as TRL's trainers read them (standard format, explicit prompt): `prompt` with `chosen` behind it is the
    text that was preferred, and with `rejected` the other, which a policy writes from where it begins to: behind the
    last word of the plain prompt, which itself has no more than the separators at its end.

    Args:
        ties: Whether they are among them, with the rewrite as what was chosen.
    """
    for duel, choice, voted in votes:
        if choice == "tie" and not ties:
            continue
        head = duel.prompt.rstrip(SEPARATORS)
        chosen, rejected = duel.rewrite[len(head) :], duel.prompt[len(head) :]
        if choice not in (duel.side, "tie"):
            chosen, rejected = rejected, chosen
        record = {name: value for name, value in vars(duel).items() if name not in ("prompt", "rewrite")}
        yield {
            "prompt": head,
            "chosen": chosen,
            "rejected": rejected,
            "tie": choice == "tie",
            **record,
            "time": datetime.fromtimestamp(voted, timezone.utc).isoformat(),
        }


def win_rate(votes: Iterable[Vote]) -> Interval:
    """How much of the votes the rewrite has, a tie being half of one: the mean over prompts, each of which counts once,
    and its interval."""
    worth: dict[str, list[float]] = {}
    for vote in votes:
        worth.setdefault(vote.duel.prompt, []).append(vote.worth)
    return bootstrap([sum(own) / len(own) for own in worth.values()])


# --- the file ----------------------------------------------------------------------------------------------------

_COLUMNS = [field.name for field in fields(Duel)]
_SCHEMA = """
CREATE TABLE duels (
    id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    rewrite TEXT NOT NULL,
    seed INTEGER NOT NULL,
    settings TEXT NOT NULL,
    policy TEXT NOT NULL,
    generator TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('left', 'right')),
    drawn INTEGER NOT NULL,
    choice TEXT CHECK (choice IN ('left', 'right', 'tie')),
    voted INTEGER
)"""
_INDEX = "CREATE INDEX waiting ON duels (drawn) WHERE choice IS NULL"


def _open(path: str | Path) -> sqlite3.Connection:
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"there is no folder {Path(path).parent} for the votes")
    with _reading(path):
        database = _connect(path, "rwc")
        with _transaction(database):  # before anything is changed of a file that may be another program's
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in (_SCHEMA, _INDEX, f"PRAGMA user_version = {VERSION}"):
                    database.execute(statement)
            _check(database, path)
        _share(database)
        database.execute("PRAGMA synchronous = FULL")  # what is committed outlives a power cut
    return database


def _share(database: sqlite3.Connection) -> None:
    """Write ahead (WAL), so that readers and the writer hold up nobody. SQLite itself does not wait where two change a
    new file to it at once."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return database.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _connect(path: str | Path, mode: str) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, timeout=PATIENCE, isolation_level=None, uri=True)


def _check(database: sqlite3.Connection, path: str | Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    columns = {name for _, name, *_ in database.execute("PRAGMA table_info(duels)")}
    if version != VERSION or not columns.issuperset(_COLUMNS):
        raise ValueError(
            f"{path} is no file of votes, or another version's (its user_version is {version}, and this neuroprompt "
            f"has {VERSION}): give another"
        )


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(f"{path} cannot be read as a file of votes ({error}): give another") from None


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, whatever fails, committing included."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _insert(database: sqlite3.Connection, name: str, duel: Duel) -> None:
    now, waiting = int(time.time()), "FROM duels WHERE choice IS NULL"
    with _transaction(database):
        database.execute(f"DELETE {waiting} AND drawn < ?", (now - DAYS * 86_400,))
        too_many = f"SELECT rowid {waiting} ORDER BY drawn DESC, rowid DESC LIMIT -1 OFFSET ?"
        database.execute(f"DELETE FROM duels WHERE rowid IN ({too_many})", (OPEN - 1,))
        places = ", ".join("?" * (len(_COLUMNS) + 2))
        columns = ", ".join(["id", "drawn", *_COLUMNS])
        database.execute(f"INSERT INTO duels ({columns}) VALUES ({places})", (name, now, *astuple(duel)))


def _update(database: sqlite3.Connection, name: str, choice: Choice) -> Duel:
    with _transaction(database):
        found = database.execute(f"SELECT choice, {', '.join(_COLUMNS)} FROM duels WHERE id = ?", (name,)).fetchone()
        if found is None:
            raise Problem(404, "there is no such duel: it was never drawn, or waited too long", "no_such_duel")
        if found[0] is not None:
            raise Problem(409, "this duel has its vote", "voted_already")
        database.execute("UPDATE duels SET choice = ?, voted = ? WHERE id = ?", (choice, int(time.time()), name))
    return Duel(*found[1:])

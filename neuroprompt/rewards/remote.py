"""A reward behind a URL: `neuroprompt serve-rewards` has it, in another environment, on another GPU or machine.

    reward = load("hps", ["http://gpu1:8808", "http://gpu2:8808"])
    reward(prompts, images)                  # what `hps` there says of the pictures with 8 bits

Pictures travel as safetensors in 8 bits, which is what the rewards that ship make of them anyway: their scores are
those of the same reward here. A user's own function gets the pictures rounded so, where here it gets what was drawn.

The pictures of a call are divided by the number of URLs, whoever is there: which server scores a part does not change
what it is scored with. A part whose server fails is another's (see `neuroprompt.pool`); where none answers, the call
waits, for NEUROPROMPT_REWARDS_PATIENCE seconds, and goes on when one comes back with the same fingerprint. The key is
in NEUROPROMPT_REWARDS_API_KEY.
"""

import json
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from neuroprompt.pool import Member, Pool
from neuroprompt.urls import read_urls
from neuroprompt.wire import RemoteError, Server, Trouble, read_key

from .preprocessing import check_batch

KEY, PATIENCE = "NEUROPROMPT_REWARDS_API_KEY", "NEUROPROMPT_REWARDS_PATIENCE"


def load(name: str, urls: Sequence[str], **settings: Any) -> "RemoteReward":
    """The reward of that name on these servers; they are asked for its fingerprint. `settings` are `RemoteReward`'s."""
    return RemoteReward(name, urls, **settings)


class RemoteReward:
    """Servers that have the same reward, as an `ImageReward`.

    Args:
        name: What it is called there.
        urls: Addresses of servers, which share the work.
        patience: Seconds for which a call waits while none answers; by default the environment's, or 600.
        timeout: Seconds that a request may take, with what waits before it in the server's queue.
        retries: How often in a row a server may fail before it is left out.

    Attributes:
        name: The same.
        fingerprint: The reward's, as the servers say: that of the same reward here.
        reads_text: Whether it is given what was drawn, too.

    Raises:
        ValueError: An address, the key or the patience is none.
        Unavailable: No server answers.
        RemoteError: A server refuses, has no such reward, or has another than the others.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        patience: float | None = None,
        timeout: float = 300.0,
        retries: int = 6,
    ):
        self.name, self._asked = name, name
        self._found: _Found | None = None
        key = read_key(KEY)
        members = [
            _Member(url, name, key, timeout, retries) for url in read_urls(urls, "a server of rewards", f"set {KEY}")
        ]
        patience = _patience() if patience is None else patience
        self._pool = Pool(f"server of the reward {name!r}", members, self._admit, patience)
        self._pool.connect()

    @property
    def fingerprint(self) -> str:
        return self._known.fingerprint

    @property
    def reads_text(self) -> bool:
        return self._known.reads_text

    def __call__(self, prompts: Sequence[str], images: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        """Scores (n,), float32, on the pictures' device, of pictures (n, 3, H, W) in [0, 1] for a prompt each; NaN
        where the server has none that is finite.

        Raises:
            ValueError: The shapes or values are not those.
            Unavailable: No server answers any more.
            RemoteError: A server refuses what it is asked.
        """
        check_batch(prompts, images)
        texts = texts if self.reads_text else None
        size = self._part_size(prompts, images, texts)
        parts = [slice(start, start + size) for start in range(0, len(images), size)]

        def ask(member: _Member, part: slice) -> list[float]:
            batch = pack(prompts[part], images[part], texts and texts[part])
            return member.score(batch, len(prompts[part]), self.fingerprint)

        scores = [score for part in self._pool.share(parts, ask) for score in part] if parts else []
        made = torch.tensor(scores, dtype=torch.float32, device=images.device)
        made[images.flatten(1).isnan().any(1)] = math.nan  # of which 8 bits know nothing
        return made

    # --- details ---------------------------------------------------------------------------------------------------

    @property
    def _known(self) -> "_Found":
        assert self._found is not None, "no server has been asked"
        return self._found

    def _admit(self, member: "_Member", found: "_Found") -> None:
        if self._found is None:
            self._found = found
        elif found.fingerprint != self._found.fingerprint:
            raise RemoteError(f"{member.url} has another {self._asked} than the others, or than before")

    def _part_size(self, prompts: Sequence[str], images: Tensor, texts: Sequence[str] | None) -> int:
        """How many pictures a request has, at most: so that there is one for each URL, and none is too long."""
        limits = self._known
        words = max((2 * len(json.dumps(one)) for one in zip(prompts, texts or prompts, strict=True)), default=0)
        fitting = (limits.max_body - _HEAD) // (images[:1].numel() + words + 1)
        return max(1, min(math.ceil(len(images) / len(self._pool.members)), limits.max_prompts, fitting))


class Batch(NamedTuple):
    """What a request says.

    Attributes:
        prompts: n of them.
        pictures: uint8, (n, 3, H, W).
        texts: What was drawn, n of them; None where nobody reads it.
    """

    prompts: list[str]
    pictures: Tensor
    texts: list[str] | None


def pack(prompts: Sequence[str], images: Tensor, texts: Sequence[str] | None = None) -> bytes:
    """A batch as a safetensors file: ``pictures`` in 8 bits, and in its metadata ``prompts`` and ``texts`` as JSON."""
    said = {"prompts": prompts} | ({} if texts is None else {"texts": texts})
    pictures = (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().contiguous()
    return write_tensors({"pictures": pictures}, {name: json.dumps(list(value)) for name, value in said.items()})


def unpack(body: bytes) -> Batch:
    """What `pack` made, of anybody's hand; never larger than it came.

    Raises:
        ValueError: It is none.
    """
    try:
        pictures = read_tensors(body)["pictures"]
        said = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
        prompts, texts = json.loads(said["prompts"]), json.loads(said.get("texts", "null"))
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the body is no batch of pictures and prompts ({type(error).__name__})") from None
    if pictures.dtype != torch.uint8:
        raise ValueError(f"the pictures are {pictures.dtype}: send them in 8 bits")
    for lines in (prompts, [] if texts is None else texts):
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValueError("the prompts and texts must be lists of texts")
    if texts is not None and len(texts) != len(prompts):
        raise ValueError(f"{len(texts)} texts for {len(prompts)} prompts: give one for each")
    return Batch(prompts, pictures, texts)


class _Found(NamedTuple):
    """What a server says of the reward, and lets a request be."""

    fingerprint: str
    reads_text: bool
    max_body: int
    max_prompts: int


class _Member(Member):
    """A server that has the reward."""

    def __init__(self, url: str, name: str, key: str | None, timeout: float, retries: int):
        super().__init__(url, retries)
        self._name = name
        self._server = Server(url, key, timeout, longest=1 << 20, key_place=f"{KEY} to its key")

    def greet(self) -> _Found:
        try:
            said = self._server.get("/v1/rewards")
        except RemoteError as error:
            if error.code != "404":
                raise
            raise RemoteError(f"{self.url} serves no rewards: start it with `neuroprompt serve-rewards`") from error
        rewards, limits = {str(entry["name"]): entry for entry in said["rewards"]}, said["limits"]
        if self._name not in rewards:
            have = ", ".join(name[:60] for name in list(rewards)[:12]) or "none"
            raise RemoteError(f"{self.url} has no reward {self._name!r}: it has {have}")
        own = rewards[self._name]
        return _Found(
            str(own["fingerprint"]), bool(own["reads_text"]), int(limits["max_body"]), int(limits["max_prompts"])
        )

    def score(self, batch: bytes, count: int, fingerprint: str) -> list[float]:
        """The scores of a batch of so many."""
        answer = self._server.post(f"/v1/rewards/{quote(self._name, safe='')}", batch)
        scores = answer["scores"]
        if not isinstance(scores, list) or len(scores) != count:
            had = len(scores) if isinstance(scores, list) else "none"
            raise Trouble(f"it answers with {had} scores where {count} are due", lasting=True)
        if answer["fingerprint"] != fingerprint:
            self.leave_out("somebody has changed the reward meanwhile", refuses=True)
            raise Trouble(self.reason)
        return [math.nan if score is None else float(score) for score in scores]


_HEAD = 4096  # bytes of a file that are neither pictures nor prompts, at most


def _patience() -> float:
    given = os.environ.get(PATIENCE, "600")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{PATIENCE} is {given!r}: give seconds")
    return seconds

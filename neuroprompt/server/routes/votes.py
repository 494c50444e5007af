"""Blind votes: two pictures of one seed, the plain prompt's and its rewrite's, on sides that are drawn by lot. Which is
which is said to whoever has voted. What is kept of it is in `server/votes.py`."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from neuroprompt.image_files import decode_image, encode_png
from neuroprompt.prompts import split_negative
from neuroprompt.server.errors import Problem
from neuroprompt.server.generators import Describe
from neuroprompt.server.pictures import SEEDS, Order, Picture, Wording, describe, drawn, sendable
from neuroprompt.server.schemas import Drawing, Strict, Text
from neuroprompt.server.votes import Choice, Duel, Side, Votes

router = APIRouter(prefix="/v1", tags=["votes"])


class DuelRequest(Drawing, Strict):
    """What to draw plain and rewritten, both with one seed."""


class DuelAnswer(BaseModel):
    """PNG files in base64, of which nothing but the pictures themselves says which is which."""

    id: str = Field(description="What `POST /v1/votes` wants to know.")
    left: str
    right: str


class VoteRequest(Strict):
    """Which picture is better."""

    duel: Text
    choice: Choice


class VoteAnswer(BaseModel):
    """What was which."""

    duel: str
    choice: Choice
    side: Side = Field(description="Where the rewrite's picture was.")
    prompt: str
    rewrite: str
    seed: int


@router.post("/duels")
async def duel(request: Request, asked: DuelRequest) -> DuelAnswer:
    """Draw a prompt and its rewrite, to be compared by somebody who does not know which is which."""
    votes, workers = _votes(request), request.app.state.workers
    seed = secrets.randbelow(SEEDS) if asked.seed is None else asked.seed
    order = Order(asked.prompt, 1, seed, asked.settings, fallback=False, **asked.rewriting)
    making = drawn(workers, order)
    text, _ = await anext(making)
    if text == split_negative(asked.prompt)[0]:
        raise Problem(422, "the rewrite of this prompt is the prompt itself: there is nothing to compare", "no_rewrite")
    pictures = await asyncio.gather(_bare(drawn(workers, replace(order, enhance=False))), _bare(making))
    policy, generator = await asyncio.gather(workers.ask("policy", Describe()), describe(workers))
    side: Side = secrets.choice(("left", "right"))
    name = await votes.open(
        Duel(
            asked.prompt,
            text,
            seed,
            json.dumps({key: value for key, value in asked.settings.items() if value is not None}),
            policy["fingerprint"],
            generator["fingerprint"],
            side,
        )
    )
    left, right = pictures if side == "right" else reversed(pictures)
    return DuelAnswer(id=name, left=left, right=right)


@router.post("/votes")
async def vote(request: Request, asked: VoteRequest) -> VoteAnswer:
    """Say which picture of a duel is better, once, and learn which was which."""
    duel = await _votes(request).cast(asked.duel, asked.choice)
    return VoteAnswer(
        duel=asked.duel,
        choice=asked.choice,
        side=duel.side,
        prompt=duel.prompt,
        rewrite=duel.rewrite,
        seed=duel.seed,
    )


def _votes(request: Request) -> Votes:
    votes = request.app.state.votes
    if votes is None:
        raise Problem(404, "this server takes no votes: start it with --votes FILE", "not_served")
    return votes


async def _bare(making: AsyncIterator[Wording | Picture]) -> str:
    """The picture that comes, as a PNG that says nothing of itself: its file had the prompt in it."""
    (picture,) = [made async for made in making if isinstance(made, Picture)]
    return await asyncio.to_thread(_encoded, sendable(picture).file)


def _encoded(file: bytes) -> str:
    image = decode_image(file)
    image.info.clear()
    return base64.b64encode(encode_png(image)).decode()

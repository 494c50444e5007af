"""Prompts in, pictures out, for every dialect: what was typed is checked, rewritten and drawn, and what was drawn is
checked."""

import asyncio
import base64
import io
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from PIL import Image

from neuroprompt.completions import check_prompt
from neuroprompt.prompts import split_negative
from neuroprompt.server.errors import Problem, refusing
from neuroprompt.server.gating import admit_gate, gate_all
from neuroprompt.server.generators import Describe, Draw
from neuroprompt.server.rewriting import admit, rewrite
from neuroprompt.server.safety import refused
from neuroprompt.server.workers import Workers

SEEDS = 2**32
"""A seed that nobody gave is below it."""


@dataclass(frozen=True)
class Order:
    """Pictures that somebody wants.

    Attributes:
        prompt: What to draw; what stands below it behind "Negative prompt:", as A1111 writes it, is not to be seen.
        count: How many; their seeds follow each other.
        seed: Of the first; None is any.
        settings: Of `GeneratorConfig`; None is the operator's.
        enhance: Whether the prompt is rewritten.
        wish: Fields of `Constraints`, for the rewrite; what is forbidden is in the negative prompt, too.
        decoding: Settings of `enhancer.Decoding`, for the rewrite.
        asking: Fields of `work.Asking`: which policy rewrites, and how.
        fallback: Whether the operator's fallback will do where there is no policy to rewrite it.
        original: What the prompt was rewritten from, if it was before; the file says it.
        if_better: The pictures, of each of the two at most, that decide whether the rewrite is drawn or the prompt; 0
            for no such decision.
    """

    prompt: str
    count: int = 1
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    enhance: bool = True
    wish: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)
    asking: Mapping[str, Any] = field(default_factory=dict)
    fallback: bool = True
    original: str | None = None
    if_better: int = 0


class Wording(NamedTuple):
    """What is drawn, and of `Order.if_better` the verdict (`Verdict.facts`)."""

    text: str
    if_better: dict[str, Any] | None = None


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn.

    Attributes:
        text: The prompt that was drawn.
        file: PNG, JPEG or WebP, as it came from what drew it.
        flagged: Whether it is not to be sent.
    """

    text: str
    seed: int
    file: bytes
    flagged: bool

    @property
    def base64(self) -> str:
        return base64.b64encode(self.file).decode()

    @cached_property
    def opened(self) -> Image.Image:
        """With size, format and what it says of itself; the pixels are read when somebody asks for them."""
        return Image.open(io.BytesIO(self.file))

    @property
    def infotext(self) -> str:
        """How it was made, in A1111's form, where it says so."""
        return str(self.opened.info.get("parameters", self.text))


async def drawn(workers: Workers, order: Order) -> AsyncIterator[Wording | Picture]:
    """What is drawn, as soon as it is known; then each picture, in the order of the seeds.

    Raises:
        Problem: Nothing draws here, or it is down; it is more than the operator allows, or what he does not let
            through; or it cannot be drawn.
    """
    prompt, negative = split_negative(order.prompt)
    order = replace(order, prompt=prompt)
    await _check(workers, order)
    settings = tuple(sorted((name, value) for name, value in order.settings.items() if value is not None))
    text, verdict = prompt, None
    if order.enhance:
        decoding = {**order.decoding, "negative": negative}
        results = await rewrite(workers, [prompt], order.wish, decoding, fallback=order.fallback, asking=order.asking)
        if order.if_better:
            results = await gate_all(workers, results, order.if_better, order.wish, settings)
        ((made,),) = results
        text, negative, verdict = made["text"], made["negative"], made.get("if_better")
    yield Wording(text, verdict)
    seed = secrets.randbelow(SEEDS - order.count) if order.seed is None else order.seed
    original = order.original or prompt
    asked = [
        asyncio.ensure_future(workers.draw(Draw(original, text, seed + i, settings, negative)))
        for i in range(order.count)
    ]
    with workers.progress.expecting(order.count) as count_one:
        try:
            for i, answer in enumerate(asked):
                file, flagged = await answer
                count_one()
                yield Picture(text, seed + i, file, flagged)
        finally:
            for answer in asked:
                answer.cancel()


def sendable(picture: Picture) -> Picture:
    """The picture, if it may be sent.

    Raises:
        Problem: It was flagged.
    """
    if picture.flagged:
        raise refused("the picture was withheld by a safety check: ask for something else, or with another seed")
    return picture


async def describe(workers: Workers) -> dict[str, Any]:
    """What draws: its ``name``, ``fingerprint``, ``config``, ``window`` and ``takes_negative``.

    Raises:
        Problem: Nothing draws here, or it is down.
    """
    if "generator" not in workers.parts:
        raise Problem(503, "this server draws no pictures: start it with --generator", "not_served")
    return await workers.ask("generator", Describe())


async def _check(workers: Workers, order: Order) -> None:
    """Refuse what cannot be, before the rewriting."""
    settings = workers.settings
    part = workers.parts.get("generator")
    if part is None or part.state == "failed":
        await describe(workers)  # which says why, and when to come again
    admit(workers, [order.prompt], order.wish, order.decoding, order.asking)
    admit(workers, [order.original or order.prompt])
    if order.if_better and order.enhance:
        admit_gate(workers, order.if_better, 1, order.count)
    with refusing():
        check_prompt(order.prompt)
        check_prompt(order.original or order.prompt)
        width, height = order.settings.get("size") or (0, 0)
        counts = {"pictures": (order.count, settings.max_pictures), "pixels": (width * height, settings.max_pixels)}
        for what, (count, most) in counts.items():
            if count > most:
                raise ValueError(f"{count:,} {what} are too many: at most {most:,}")

"""What judges: files for a prompt by all rewards, and for programs elsewhere batches of tensors by one
(`neuroprompt.rewards.remote`)."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field

from neuroprompt.server.errors import refusal, refuse_excess
from neuroprompt.server.generators import Describe
from neuroprompt.server.rewards import Judging, Scoring
from neuroprompt.server.schemas import ScoreAnswer, ScoreRequest

router = APIRouter(prefix="/v1", tags=["rewards"])


class RewardEntry(BaseModel):
    name: str
    fingerprint: str = Field(description="A hash of everything that its scores depend on besides prompt and picture.")
    reads_text: bool = Field(description="Whether it reads what was drawn, beside the prompt that was wished.")


class RewardLimits(BaseModel):
    """Of a request."""

    max_body: int
    max_prompts: int
    max_prompt_length: int


class RewardsAnswer(BaseModel):
    rewards: list[RewardEntry]
    limits: RewardLimits


class RewardAnswer(BaseModel):
    scores: list[float | None] = Field(description="One for each picture; null where it is not finite.")
    fingerprint: str


@router.post("/score")
async def score(request: Request, asked: ScoreRequest) -> ScoreAnswer:
    """Say what each reward makes of pictures."""
    settings = request.app.state.settings
    count, texts = len(asked.pictures), asked.texts or [asked.prompt] * len(asked.pictures)
    length = max(map(len, [asked.prompt, *texts]))
    refuse_excess(
        {"characters in a prompt": (length, settings.max_prompt_length), "pictures": (count, settings.max_prompts)}
    )
    try:
        pictures = [base64.b64decode(picture, validate=True) for picture in asked.pictures]
    except (binascii.Error, ValueError):
        raise refusal(ValueError("pictures: this is no base64")) from None
    if len(texts) != count:
        raise refusal(ValueError(f"{len(texts)} texts for {count} pictures: give one for each"))
    judged = [Judging(asked.prompt, *one) for one in zip(pictures, texts, strict=True)]
    made = await request.app.state.workers.ask_all("rewards", judged)
    return ScoreAnswer(results=[one.scores for one in made], answers=[one.answers for one in made])


@router.get("/rewards")
async def rewards(request: Request) -> RewardsAnswer:
    """What there is to ask, once it is loaded."""
    state = request.app.state
    limits = {name: getattr(state.settings, name) for name in RewardLimits.model_fields}
    return RewardsAnswer(rewards=await state.workers.ask("rewards", Describe()), limits=RewardLimits(**limits))


@router.post("/rewards/{name:path}")
async def reward(
    request: Request, name: str, batch: Annotated[bytes, Body(media_type="application/octet-stream")]
) -> RewardAnswer:
    """Score a batch: a safetensors file with `pictures` (n, 3, height, width) in 8 bits, and in its metadata `prompts`,
    and `texts` where they are read, each a list in JSON."""
    return RewardAnswer(**await request.app.state.workers.ask("rewards", Scoring(name, batch)))

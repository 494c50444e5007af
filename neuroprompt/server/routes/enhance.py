"""The native routes: what `neuroprompt enhance`, `score` and `modifiers` do."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Query, Request

from neuroprompt.modifiers import CATEGORIES, suggestions
from neuroprompt.server.errors import refusal
from neuroprompt.server.rewriting import check_limits, rewrite
from neuroprompt.server.schemas import (
    Asking,
    Category,
    DecodingSettings,
    EnhanceAnswer,
    EnhanceRequest,
    ModifierEntry,
    ModifiersAnswer,
    ScoreAnswer,
    ScoreRequest,
    Wish,
)
from neuroprompt.server.work import Judging

router = APIRouter(prefix="/v1", tags=["rewriting"])


@router.post("/enhance")
async def enhance(request: Request, asked: EnhanceRequest) -> EnhanceAnswer:
    """Rewrite one prompt or many: the user's words, then modifiers; or, by a policy that retells, in prose."""
    prompts = [asked.prompts] if isinstance(asked.prompts, str) else asked.prompts
    wish, decoding, asking = (
        asked.model_dump(include=set(part.model_fields), exclude_unset=True)
        for part in (Wish, DecodingSettings, Asking)
    )
    workers = request.app.state.workers
    results = await rewrite(workers, prompts, wish, decoding, asked.seeds, asking=asking)
    return EnhanceAnswer(results=results)


@router.post("/score")
async def score(request: Request, asked: ScoreRequest) -> ScoreAnswer:
    """Say what each reward makes of pictures."""
    settings = request.app.state.settings
    check_limits(settings, [asked.prompt])
    if len(asked.pictures) > settings.max_prompts:
        raise refusal(ValueError(f"{len(asked.pictures)} pictures are too many: at most {settings.max_prompts}"))
    try:
        pictures = [base64.b64decode(picture, validate=True) for picture in asked.pictures]
    except (binascii.Error, ValueError):
        raise refusal(ValueError("pictures: this is no base64")) from None
    judged = [Judging(asked.prompt, picture) for picture in pictures]
    return ScoreAnswer(results=await request.app.state.workers.ask_all("rewards", judged))


@router.get("/modifiers")
def modifiers(
    category: Category | None = None,
    search: Annotated[str | None, Query(max_length=200, description="Only terms that hold these letters.")] = None,
    limit: Annotated[int, Query(ge=0, lt=2**31, description="Of each category, at most; 0 is all.")] = 20,
) -> ModifiersAnswer:
    """List modifiers, and how many of DiffusionDB's prompts hold each."""
    return ModifiersAnswer(
        modifiers=[
            ModifierEntry(category=name, modifier=term, prompts=count)
            for name in ([category] if category else CATEGORIES)
            for term, count in suggestions(name, limit or None, search)
        ]
    )

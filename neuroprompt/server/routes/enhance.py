"""The native routes: what `neuroprompt enhance` and `modifiers` do."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from neuroprompt.modifiers import CATEGORIES, suggestions
from neuroprompt.server.gating import admit_gate, gate_all
from neuroprompt.server.rewriting import rewrite
from neuroprompt.server.schemas import (
    Asking,
    Category,
    DecodingSettings,
    EnhanceAnswer,
    EnhanceRequest,
    ModifierEntry,
    ModifiersAnswer,
    Wish,
)

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
    if asked.if_better:
        admit_gate(workers, asked.if_better, len(prompts) * asked.num_return_sequences)
    results = await rewrite(workers, prompts, wish, decoding, asked.seeds, asking=asking)
    if asked.if_better:
        results = await gate_all(workers, results, asked.if_better, wish)
    return EnhanceAnswer(results=results)


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

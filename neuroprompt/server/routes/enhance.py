"""The native routes: what `neuroprompt enhance`, `score` and `modifiers` do."""

from fastapi import APIRouter, Request

from neuroprompt.decoding import Constraints
from neuroprompt.server.rewriting import rewrite
from neuroprompt.server.schemas import ConstraintFields, DecodingFields, EnhanceAnswer, EnhanceRequest

router = APIRouter(prefix="/v1", tags=["rewriting"])


@router.post("/enhance")
async def enhance(request: Request, asked: EnhanceRequest) -> EnhanceAnswer:
    """Rewrite one prompt or many."""
    wish = Constraints(**asked.model_dump(include=set(ConstraintFields.model_fields)))
    decoding = asked.model_dump(include=set(DecodingFields.model_fields))
    prompts = [asked.prompts] if isinstance(asked.prompts, str) else asked.prompts
    return EnhanceAnswer(results=await rewrite(request.app.state.workers, prompts, wish, decoding))

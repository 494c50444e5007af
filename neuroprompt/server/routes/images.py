"""OpenAI's images API, which most tools speak, with what it lacks: seeds, steps, guidance, negative prompts, and
constraints. The rewrite comes back as ``revised_prompt``."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from neuroprompt.images.config import shown_size
from neuroprompt.server.errors import Problem, fault
from neuroprompt.server.pictures import Order, Picture, Wording, describe, drawn, sendable
from neuroprompt.server.schemas import Drawing, IfBetter, Text, Verdict
from neuroprompt.server.workers import Workers

router = APIRouter(prefix="/v1", tags=["pictures"])


class ImagesRequest(Drawing):
    """OpenAI's, as far as it means something here; what else its clients send (``model``, ``quality``, ``style``,
    ``user``, …) is put up with."""

    n: int | None = Field(None, ge=1, description="How many pictures.")
    response_format: Literal["b64_json", "url"] | None = Field(None, description="A url is a data: URL.")
    stream: bool | None = Field(None, description="Send events: the rewrite, then each picture. As with Accept.")
    enhance: bool = Field(True, description="Rewrite the prompt first.")
    if_better: IfBetter = 0
    original: Text | None = Field(None, description="What `prompt` was rewritten from, if it was: files say both.")


class ImageEntry(BaseModel):
    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str
    seed: int


class ImagesAnswer(BaseModel):
    created: int
    data: list[ImageEntry]
    output_format: str
    size: str
    if_better: Verdict | None = None


@router.post(
    "/images/generations", response_model_exclude_none=True, responses={200: {"content": {"text/event-stream": {}}}}
)
async def generate(request: Request, asked: ImagesRequest) -> ImagesAnswer:
    """Rewrite a prompt, and draw it."""
    order = Order(
        asked.prompt,
        asked.n or 1,
        asked.seed,
        asked.settings,
        asked.enhance,
        original=asked.original,
        if_better=asked.if_better,
        **asked.rewriting,
    )
    making = drawn(request.app.state.workers, order)
    if asked.stream or "text/event-stream" in request.headers.get("accept", ""):
        wording = await anext(making)  # what is wrong with the request is said as ever
        return StreamingResponse(_events(wording, making, order.count), media_type="text/event-stream")
    wording, *pictures = [made if isinstance(made, Wording) else sendable(made) async for made in making]
    return ImagesAnswer(
        created=int(time.time()),
        data=[_entry(picture, asked.response_format == "url") for picture in pictures],
        output_format=_format(pictures[0]),
        size=shown_size(pictures[0].opened.size),
        if_better=wording.if_better,
    )


class ModelEntry(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "neuroprompt"


class ModelsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelEntry]


@router.get("/models")
async def models(request: Request) -> ModelsAnswer:
    """What draws here, which is one model, or none."""
    workers: Workers = request.app.state.workers
    if "generator" not in workers.parts:
        return ModelsAnswer(data=[])
    return ModelsAnswer(data=[ModelEntry(id=(await describe(workers))["name"])])


async def _events(wording: Wording, making: AsyncIterator[Wording | Picture], count: int) -> AsyncIterator[str]:
    """Server-sent events: OpenAI's for a picture that is done, and one for the rewrite before them."""
    verdict = {"if_better": wording.if_better} if wording.if_better else {}
    yield _event("image_generation.rewritten", revised_prompt=wording.text, pictures=count, **verdict)
    index = 0
    try:
        async for picture in making:
            yield _event(
                "image_generation.completed",
                b64_json=sendable(picture).base64,
                revised_prompt=wording.text,
                seed=picture.seed,
                index=index,
                pictures=count,
                created_at=int(time.time()),
                output_format=_format(picture),
                size=shown_size(picture.opened.size),
                background="opaque",
                quality="auto",
                usage={"input_tokens": 0, "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}
                | {"output_tokens": 0, "total_tokens": 0},
            )
            index += 1
        yield _event("image_generation.done", pictures=count)
    except Exception as error:
        problem = error if isinstance(error, Problem) else fault(error)
        yield _event("error", **json.loads(problem.response("/v1/images/generations").body))


def _event(kind: str, **said: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | said)}\n\n"


def _entry(picture: Picture, as_url: bool) -> ImageEntry:
    said = {"revised_prompt": picture.text, "seed": picture.seed}
    if as_url:
        return ImageEntry(url=f"data:image/{_format(picture)};base64,{picture.base64}", **said)
    return ImageEntry(b64_json=picture.base64, **said)


def _format(picture: Picture) -> str:
    return str(picture.opened.format).lower()

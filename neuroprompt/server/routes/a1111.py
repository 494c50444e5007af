"""The API of AUTOMATIC1111's web UI (``/sdapi/v1``), as far as Open WebUI, SillyTavern and the like ask for it.

A checkpoint, a sampler or an option that a request names changes nothing here: the operator has chosen them.
"""

import base64
import io
import json
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from pydantic import BaseModel, Field

from neuroprompt.image_files import SAMPLERS, encode_png
from neuroprompt.server.errors import DIALECTS, Problem
from neuroprompt.server.pictures import Order, describe, drawn
from neuroprompt.server.rewriting import admit
from neuroprompt.server.schemas import AnyText, IfBetter

PREFIX = "/sdapi/v1"


class A1111Error(BaseModel):
    error: str
    detail: str
    body: str
    errors: str


router = APIRouter(prefix=PREFIX, tags=["A1111"], responses={key: {"model": A1111Error} for key in ("4XX", "5XX", 422)})


class Txt2ImgRequest(BaseModel):
    """A1111's, as far as it means something here; whatever else there is put up with."""

    prompt: AnyText = ""
    negative_prompt: AnyText | None = None
    seed: int | None = Field(-1, ge=-1, lt=2**63, description="-1 is any; the answer says which.")
    steps: int | None = Field(None, ge=1, le=150, description="By default the operator's, or the model's own.")
    cfg_scale: float | None = Field(None, ge=0, le=100)
    width: int | None = Field(None, ge=8, le=16384)
    height: int | None = Field(None, ge=8, le=16384)
    batch_size: int | None = Field(1, ge=1, le=1000)
    n_iter: int | None = Field(1, ge=1, le=1000)
    send_images: bool | None = True
    enhance: bool = Field(True, description="Rewrite the prompt first; A1111 has no such field.")
    if_better: IfBetter = 0


class Txt2ImgAnswer(BaseModel):
    images: list[str] = Field(description="PNG files in base64; black where a safety check withheld one.")
    parameters: dict[str, Any]
    info: str = Field(description="JSON.")


@router.post("/txt2img")
async def txt2img(request: Request, asked: Txt2ImgRequest) -> Txt2ImgAnswer:
    """Rewrite a prompt, and draw it."""
    workers = request.app.state.workers
    admit(workers, [asked.prompt])  # before a generator is waited for that is still being loaded
    generator = await describe(workers)
    own = generator["config"]
    guidance = own["guidance"] if asked.cfg_scale is None else asked.cfg_scale
    guided = guidance is None or guidance > 1  # without guidance a negative prompt does nothing, there as here
    size = asked.width or asked.height
    settings = {
        "size": (asked.width or size, asked.height or size) if size else None,
        "steps": asked.steps,
        "guidance": asked.cfg_scale,
        "negative": (asked.negative_prompt or None) if guided else None,
    }
    count = (asked.batch_size or 1) * (asked.n_iter or 1)
    seed = None if asked.seed in (None, -1) else asked.seed
    order = Order(asked.prompt, count, seed, settings, asked.enhance, if_better=asked.if_better)
    wording, *pictures = [made async for made in drawn(workers, order)]
    blank = settings["size"] or own["size"] or (512, 512)
    images = [encode_png(Image.new("RGB", blank)) if picture.flagged else picture.file for picture in pictures]
    said = [_WITHHELD if picture.flagged else picture.infotext for picture in pictures]
    width, height = Image.open(io.BytesIO(images[0])).size
    info = {
        "prompt": wording.text,
        "original_prompt": asked.prompt,
        "all_prompts": [picture.text for picture in pictures],
        "negative_prompt": settings["negative"] or "",
        "all_negative_prompts": [settings["negative"] or ""] * count,
        "seed": pictures[0].seed,
        "all_seeds": [picture.seed for picture in pictures],
        "width": width,
        "height": height,
        "sampler_name": _sampler(own),
        "cfg_scale": guidance,
        "steps": asked.steps or own["steps"],
        "batch_size": asked.batch_size or 1,
        "sd_model_name": generator["name"],
        "sd_model_hash": generator["fingerprint"][:10],
        "infotexts": said,
    } | ({"if_better": wording.if_better} if wording.if_better else {})
    sent = images if asked.send_images is not False else []
    return Txt2ImgAnswer(
        images=[base64.b64encode(image).decode() for image in sent],
        parameters=asked.model_dump(),
        info=json.dumps(info),
    )


@router.get("/options")
async def options(request: Request) -> dict[str, Any]:
    """The checkpoint that draws."""
    (model,) = await checkpoints(request)
    return {"sd_model_checkpoint": model["title"], "sd_checkpoint_hash": model["sha256"], "samples_format": "png"}


@router.post("/options")
async def set_options(request: Request, wanted: dict[str, Any]) -> None:
    """Put up with the checkpoint that draws; no option changes anything."""
    (model,) = await checkpoints(request)
    checkpoint = wanted.get("sd_model_checkpoint")
    if checkpoint not in (None, model["title"], model["model_name"], model["hash"]):
        raise Problem(404, f"this server draws with {model['title']}, and with no other checkpoint", "model_not_found")


@router.get("/sd-models")
async def checkpoints(request: Request) -> list[dict[str, Any]]:
    """The checkpoint that draws."""
    model = await describe(request.app.state.workers)
    name, short = model["name"], model["fingerprint"][:10]
    title = f"{name} [{short}]"
    return [
        {
            "title": title,
            "model_name": name,
            "hash": short,
            "sha256": model["fingerprint"],
            "filename": name,
            "config": None,
        }
    ]


@router.get("/samplers")
async def samplers(request: Request) -> list[dict[str, Any]]:
    """The sampler that the model has."""
    name = _sampler((await describe(request.app.state.workers))["config"])
    return [{"name": name, "aliases": [], "options": {}}]


@router.get("/schedulers")
async def schedulers() -> list[dict[str, Any]]:
    """The sampler's own."""
    own = {"name": "automatic", "label": "Automatic", "aliases": None, "default_rho": -1, "need_inner_model": False}
    return [own]


@router.get("/upscalers")
@router.get("/latent-upscale-modes")
@router.get("/sd-vae")
@router.get("/loras")
@router.get("/hypernetworks")
@router.get("/prompt-styles")
async def nothing() -> list[dict[str, Any]]:
    """None of these."""
    return []


@router.get("/cmd-flags")
async def flags() -> dict[str, Any]:
    """None that concern a client."""
    return {}


@router.get("/progress")
async def progress(request: Request) -> dict[str, Any]:
    """How far the pictures are that are asked for now, whoever asked."""
    now = request.app.state.workers.progress
    state = {"skipped": False, "interrupted": False, "job": "", "job_count": now.asked, "job_no": now.drawn}
    state |= {"sampling_step": 0, "sampling_steps": 0}
    part = now.drawn / now.asked if now.asked else 0.0
    return {"progress": part, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}


_WITHHELD = "withheld by a safety check"


def _sampler(config: dict[str, Any]) -> str:
    """As A1111 calls it."""
    return SAMPLERS.get(config["scheduler"], config["scheduler"]) or "Automatic"


def _written(problem: Problem) -> dict[str, Any]:
    return {"error": problem.code, "detail": problem.message, "body": "", "errors": problem.message}


DIALECTS[PREFIX] = _written

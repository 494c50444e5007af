"""How the server is: alive, ready, measured, described."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

import neuroprompt
from neuroprompt.families import FAMILIES
from neuroprompt.server.errors import Problem
from neuroprompt.server.generators import Describe
from neuroprompt.server.pictures import describe
from neuroprompt.server.settings import shown_name

probes = APIRouter(tags=["health"])
figures = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])

LIMITS = (
    *("max_body", "max_prompts", "max_prompt_length", "max_variants", "max_pictures", "max_pixels", "max_concurrent"),
    *("rate_limit", "timeout", "batch_size"),
)


@probes.head("/livez", include_in_schema=False)  # some that watch a server ask for the head alone
@probes.get("/livez")
async def livez() -> dict[str, str]:
    """The server answers; nothing is said of its parts."""
    return {"status": "alive"}


@probes.head("/readyz", include_in_schema=False)
@probes.get("/readyz", responses={503: {"description": "A part is not ready"}})
async def readyz(request: Request) -> JSONResponse:
    """Each part by name; 503 until all are ready. A policy that failed where there is a fallback holds up nothing."""
    state = request.app.state
    parts = {name: part.state for name, part in state.workers.parts.items()}
    enough = {name: ("ready", "restarting", "failed") for name in state.settings.dispensable}
    ready = all(how in enough.get(name, ("ready",)) for name, how in parts.items())
    return JSONResponse({"status": "ready" if ready else "not ready", "parts": parts}, 200 if ready else 503)


@figures.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info")
async def info(request: Request) -> dict[str, object]:
    """Version, models and families that requests can name, limits, and whether there are votes."""
    settings, workers = request.app.state.settings, request.app.state.workers
    generator, policy = await asyncio.gather(_asked(describe(workers)), _asked(workers.ask("policy", Describe())))
    told = policy["retell"] if policy else {}
    return {
        "version": neuroprompt.__version__,
        "models": {
            "policy": next(iter(settings.policies)),
            "generator": ", ".join(map(shown_name, settings.generator.split(","))),
            "rewards": settings.rewards,
        },
        "policies": [{"name": name, "retells": told.get(name)} for name in settings.policies],
        "families": list(FAMILIES),
        "for": settings.made_for and settings.made_for.name,
        "generator": generator,
        "fallback": settings.fallback,
        "votes": settings.votes is not None,
        "limits": {name: getattr(settings, name) for name in LIMITS},
    }


async def _asked(description: Awaitable[dict[str, Any]]) -> dict[str, Any] | None:
    """What a part says of itself; None where there is none, or it has no time to say."""
    try:
        return await asyncio.wait_for(description, 1)
    except (Problem, asyncio.TimeoutError):
        return None

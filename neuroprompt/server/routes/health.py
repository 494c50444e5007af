"""How the server is: alive, ready, measured, described."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

import neuroprompt

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The server answers; nothing is said of its parts."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Each part by name; 503 while one of them is not ready."""
    state = request.app.state
    parts = {name: part.state for name, part in state.workers.parts.items()}
    parts |= {name: how() for name, how in state.checks.items()}
    ready = all(how == "ready" for how in parts.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "parts": parts}, 200 if ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info")
async def info(request: Request) -> dict[str, object]:
    """Versions, models and limits."""
    settings = request.app.state.settings
    return {
        "version": neuroprompt.__version__,
        "models": {name: getattr(settings, name) for name in ("model", "generator", "rewards")},
        "limits": {
            name: getattr(settings, name)
            for name in ("max_body", "max_prompts", "max_prompt_length", "max_variants", "max_concurrent", "rate_limit")
        },
    }

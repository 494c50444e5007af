"""The front: one process that answers HTTP and loads no model, so that it is there in a second and outlives workers.

app = create_app(ServeSettings(generator="none"))        # any ASGI server runs it
run(ServeSettings())                                     # and so does this, on uvicorn
"""

import errno
import math
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

import neuroprompt
from neuroprompt.server.errors import Problem
from neuroprompt.server.limits import Limits
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.routes import PROBES, REWARDS, ROUTERS
from neuroprompt.server.schemas import ErrorAnswer
from neuroprompt.server.settings import ServerSettings, ServeSettings
from neuroprompt.server.votes import Votes
from neuroprompt.server.workers import Workers
from neuroprompt.terminal import say


def create_app(settings: ServerSettings) -> FastAPI:
    """The application, all of it or, by `RewardServerSettings`, rewards alone; its workers have its lifespan.

    Raises:
        ValueError: A file that the settings name cannot be read.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.workers.start()
        yield
        await app.state.workers.stop()
        if app.state.votes:
            await app.state.votes.close()

    app = FastAPI(
        title="neuroprompt",
        description="Plain image prompts in, expert ones out.",
        version=neuroprompt.__version__,
        lifespan=lifespan,
        docs_url=None,  # pages that load their scripts from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}, 422: {"model": ErrorAnswer}},
    )
    app.state.settings, app.state.metrics = settings, Metrics()
    app.state.workers = Workers(settings, app.state.metrics)
    whole = isinstance(settings, ServeSettings)
    app.state.votes = Votes(settings.votes) if whole and settings.votes else None
    bearer = [Depends(HTTPBearer(auto_error=False))] if settings.keys else []  # for OpenAPI; `Limits` asks for it
    app.include_router(PROBES)
    for router in ROUTERS if whole else REWARDS:
        app.include_router(router, dependencies=bearer)
    for kind in (Problem, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(Limits, settings=settings, metrics=app.state.metrics)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origin,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def run(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, and answer what was asked until then.

    Raises:
        ValueError: The address, or a file, cannot be had; before anything is loaded.
    """
    app = create_app(settings)
    listening = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="on",
        http="h11",  # whatever else is installed: what is no HTTP is answered alike
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.timeout),
    )
    signal.signal(signal.SIGTERM, lambda *_: None)  # to which uvicorn hands it on, when all is done
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"serving on http://{shown}:{listening.getsockname()[1]}")
    uvicorn.Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port {port} of {host} is in use: give another --port, or 0 for any free one") from None
        raise ValueError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None


async def _answer(request: Request, error: Exception) -> Response:
    """What goes wrong in a route, or before it is found, in the shape of the path's dialect."""
    headers = getattr(error, "headers", None) or {}  # such as Allow
    if isinstance(error, RequestValidationError):
        wrong = error.errors()[0]
        field, *rest = wrong["loc"][1:] or ("body",)
        where = ".".join([str(field)[:100], *(str(part) for part in rest if isinstance(part, int))])
        if wrong["type"] == "json_invalid":
            error = Problem(400, "the body is no JSON", "invalid_json")
        else:
            error = Problem(422, f"{where}: {wrong['msg']}", "invalid_request")
    elif isinstance(error, HTTPException):
        error = Problem(error.status_code, str(error.detail), "http_error")
    response = error.response(request.url.path)
    response.headers.update(headers)
    return response

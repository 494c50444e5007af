"""The front: one process that answers HTTP and loads no model, so that it is there in a second and outlives workers.

app = create_app(ServeSettings(generator="none"))        # any ASGI server runs it
run(ServeSettings())                                     # and so does this, on uvicorn
"""

import errno
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import neuroprompt
from neuroprompt.server.errors import Problem
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.routes import ROUTERS
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.workers import Workers
from neuroprompt.terminal import say


def create_app(settings: ServeSettings) -> FastAPI:
    """The application; its workers start and end with its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.workers.start()
        yield
        await app.state.workers.stop()

    app = FastAPI(
        title="neuroprompt",
        description="Plain image prompts in, expert ones out.",
        version=neuroprompt.__version__,
        lifespan=lifespan,
        docs_url=None,  # pages that load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.settings, app.state.metrics, app.state.checks = settings, Metrics(), {}
    app.state.workers = Workers(settings, app.state.metrics)
    for router in ROUTERS:
        app.include_router(router)
    for kind in (Problem, RequestValidationError, HTTPException, ValueError):
        app.add_exception_handler(kind, _answer)
    return app


def run(settings: ServeSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, and answer what was asked until then.

    Raises:
        ValueError: The address cannot be had; before anything is loaded.
    """
    app = create_app(settings)
    listening = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=int(settings.timeout)
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
    """Every error, in the shape of the path's dialect."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        problem = Problem(422, f"{where}: {first['msg']}" if where else first["msg"], "invalid_request")
    elif isinstance(error, HTTPException):
        problem = Problem(error.status_code, str(error.detail), "http_error")
    elif isinstance(error, ValueError):
        problem = Problem(422, " ".join(str(error).split()), "invalid_request")
    else:
        problem = error
    return problem.response(request.url.path)

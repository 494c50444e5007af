"""The page that a browser shows at ``/``: files that hold no secret, and so want no key. What the page does, it does by
the routes that everybody has.

Nothing on it runs, or is shown, that did not come from here: its policy (`POLICY`) lets a browser load nothing else,
ask no other server, and turn no text into markup.
"""

from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

router = APIRouter()

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""What is served, by its ending; not what the system has in a table of its own."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'; frame-ancestors 'self'"
)


class File(NamedTuple):
    content: bytes
    kind: str
    tag: str


def _read() -> dict[str, File]:
    found = {}
    for file in (files("neuroprompt.server") / "page").iterdir():
        if kind := TYPES.get(PurePath(file.name).suffix):
            content = file.read_bytes()
            found[file.name] = File(content, kind, f'"{sha256(content).hexdigest()[:16]}"')
    return found


FILES = _read()
"""By name."""


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/page/{name}", methods=["GET", "HEAD"], include_in_schema=False)
async def page(request: Request, name: str = "index.html") -> Response:
    """A file, or that the browser's copy is still the same. Other sites show the page in a frame where they may ask."""
    if name not in FILES:
        raise HTTPException(404)
    content, kind, tag = FILES[name]
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",  # kept, and asked for each time: another version may be there
        "Content-Security-Policy": " ".join([POLICY, *(request.app.state.settings.cors_origin or ())]),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)

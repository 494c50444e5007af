"""Who may ask, how much, how often and how long: the middleware around all routes, and what it counts.

A request is turned away before its body is read where its head says enough: by another site's page in the browser of
somebody who runs the server for himself (`_refuse_other_sites`), without a key (401), when too many are in the house or
from one asker (429), or with too long a body (413). It ends with 504 when its time is up, and where the client has gone
what it asked is dropped. A fault of ours is logged without its message, which may quote a prompt.
"""

import asyncio
import base64
import binascii
import hmac
import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuroprompt.server.errors import Problem, fault
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.settings import ServerSettings, is_loopback

PROBES = ("/livez", "/readyz")
"""What an orchestrator asks, however busy the server is, and without a key."""
PAGE = "/page/"
"""Where the files of the page are, which asks for the key: they come without one, as the page itself does, at ``/``."""


class Limits:
    """ASGI middleware.

    Args:
        app: What it lets requests through to.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics):
        self.app, self.settings, self.metrics = app, settings, metrics
        self.keys = [key.encode() for key in settings.keys]
        self.rate = _Rate(settings.rate_limit) if settings.rate_limit else None
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self.inside += 1
        self.metrics.concurrent.set(self.inside)
        try:
            self._admit(scope)
            await asyncio.wait_for(self._pass(scope, receive, watched), self.settings.timeout)
        except Exception as error:
            problem = _problem(error, self.settings)
            if problem.status == 413 and not Headers(scope=scope).get("expect"):
                await _linger(receive)
            if not status:  # else half an answer is out, and the end of the connection says that it stays so
                await problem.response(scope["path"])(scope, receive, watched)
        finally:
            self.inside -= 1
            self.metrics.concurrent.set(self.inside)
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, status or "gone").inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - began)

    def _admit(self, scope: Scope) -> None:
        """Raise the `Problem` of a request that goes no further, as far as its head says."""
        headers = Headers(scope=scope)
        asker: Hashable = scope["client"][0] if scope["client"] else None
        if not self.keys:
            self._refuse_other_sites(headers)
        if scope["path"] in (*PROBES, "/") or scope["path"].startswith(PAGE):
            return
        if self.keys:
            given = _key(headers.get("authorization", ""))
            right = [hmac.compare_digest(given, key) for key in self.keys]  # all of them: time says nothing
            if not any(right):
                raise Problem(401, "this server wants a key: send Authorization: Bearer KEY", "invalid_api_key")
            asker = right.index(True)
        if self.rate and (wait := self.rate.wait(asker)):
            raise Problem(429, f"more than {self.settings.rate_limit} requests a minute", "rate_limited", wait)
        if self.inside > self.settings.max_concurrent:
            raise Problem(429, f"{self.settings.max_concurrent} requests are in the house: ask again", "overloaded", 1)
        length = headers.get("content-length", "0")  # digits, as the parser of HTTP has seen to
        if len(length) > 18 or int(length) > self.settings.max_body:
            raise self._too_long()

    def _refuse_other_sites(self, headers: Headers) -> None:
        """Without a key, whatever runs in a browser on this machine could ask. A page elsewhere has an origin that is
        not ours, and one whose name was made to point here (DNS rebinding) says that name as the host."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _hostname(host)
        if name not in ("localhost", self.settings.host) and not is_loopback(name):
            raise Problem(403, "without a key the server is asked by this machine's own names alone", "wrong_host")
        allowed = {f"http://{host}", *(self.settings.cors_origin or ())}
        if origin is not None and not allowed & {origin, "*"}:
            raise Problem(403, "pages of other sites may not ask: see --cors-origin", "wrong_origin")

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, for as long as its client is there."""
        body = await self._body(receive)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                await asyncio.get_running_loop().create_future()  # that the client has gone is seen to here
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        answer = asyncio.create_task(self.app(scope, again, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")  # none where the client has gone, which is seen later
            if len(body) > self.settings.max_body:
                raise self._too_long()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_long(self) -> Problem:
        return Problem(413, f"the body is longer than {self.settings.max_body:,} bytes", "too_long")


class _Rate:
    """Requests a minute of each asker, as a bucket that fills evenly and holds a minute's (token bucket)."""

    MOST = 10_000  # askers that are remembered

    def __init__(self, a_minute: int):
        self.a_minute = a_minute
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # what was left, and when

    def wait(self, asker: Hashable) -> int:
        """Take one, and say 0; or the seconds until there will be one."""
        now = time.monotonic()
        left, then = self._buckets.pop(asker, (self.a_minute, now))
        left = min(self.a_minute, left + (now - then) * self.a_minute / 60)
        self._buckets[asker] = (max(left - 1, left % 1), now)
        while len(self._buckets) > self.MOST:
            self._buckets.popitem(last=False)  # who asked longest ago
        return 0 if left >= 1 else int((1 - left) * 60 / self.a_minute) + 1


async def _linger(receive: Receive) -> None:
    """Read on for a while, and forget it: a client that is still writing when the connection is closed may never read
    why."""

    async def read(rest: int = 2**24) -> None:
        while rest > 0 and (message := await receive()).get("more_body", False):
            rest -= len(message["body"])

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read(), 5)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _key(authorization: str) -> bytes:
    """The key in a header: behind "Bearer", or the password of "Basic", which is all that some clients can send."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return value.strip().encode("utf-8") if scheme.lower() == "bearer" else b""


def _hostname(host: str) -> str:
    """Of a Host header: without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _problem(error: Exception, settings: ServerSettings) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return Problem(504, f"this took more than {settings.timeout:g} s", "timeout", 1)
    return fault(error)

"""One server over HTTP: JSON or a file out, and either back, each checked; to this host alone, with its key.

Nothing is asked of anybody whom the user did not name: redirects are refused, loopback knows no proxy, and what lies in
a ``.netrc`` stays there.
"""

import json
import os
import time
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.utils import get_environ_proxies
from urllib3.util import Retry


class RemoteError(OSError):
    """What a server refuses, or what is wrong with how it was asked. One line; to ask again is of no use.

    Attributes:
        code: The server's word for it, such as ``moderation_blocked``; empty where it has none.
    """

    def __init__(self, message: str, code: str = ""):
        super().__init__(message)
        self.code = code


class Unavailable(RemoteError):
    """No server answers. One line with the last reason of each.

    Attributes:
        retry_after: Seconds until one of them is tried again.
    """

    def __init__(self, message: str, retry_after: float = 0.0):
        super().__init__(message)
        self.retry_after = retry_after


class Trouble(Exception):
    """A server that fails, of which another one, or the same one later, may do better.

    Attributes:
        wait: Seconds that the server asks for; None where it does not say.
        lasting: Whether to ask again soon is of no use: it hangs, or answers what cannot be read.
    """

    def __init__(self, reason: str, *, wait: float | None = None, lasting: bool = False):
        super().__init__(reason)
        self.wait, self.lasting = wait, lasting


class Server:
    """A server.

    Args:
        url: Up to where its API begins.
        key: Sent as a bearer token; as a password where it is ``user:password``.
        timeout: Seconds that an answer may take.
        longest: Bytes of an answer that are read.
        key_place: Where the user puts the key, which a server that wants one is answered with.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 300.0,
        *,
        longest: int = 1 << 28,
        key_place: str = "api_key=env:NAME to the variable that holds its key",
    ):
        self.url, self.timeout, self._longest, self._key_place = url, timeout, longest, key_place
        self._session = requests.Session()
        self._session.trust_env = False  # which would read a .netrc, and ask a proxy for 127.0.0.1
        self._session.proxies = {} if is_loopback(url) else get_environ_proxies(url)
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        self._session.headers.update({"User-Agent": "neuroprompt", "Accept-Encoding": "identity"})
        if key and ":" in key:
            self._session.auth = tuple(part.encode() for part in key.split(":", 1))
        elif key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str, **query: str) -> Any:
        """The JSON there.

        Raises:
            RemoteError: It refuses, or leads elsewhere.
            Trouble: It fails, or what it says is no JSON.
        """
        return self._json(*self._ask("GET", path, params=query))

    def post(self, path: str, body: dict | bytes) -> Any:
        """The JSON that it answers to JSON, or to a file; raises as `get`."""
        if isinstance(body, bytes):
            return self._json(*self._ask("POST", path, data=body, headers={"Content-Type": "application/octet-stream"}))
        return self._json(*self._ask("POST", path, json=body))

    def read(self, path: str, **query: str) -> bytes:
        """The file there; raises as `get`."""
        return self._ask("GET", path, params=query)[1]

    def read_url(self, url: str) -> bytes:
        """The file at a URL that the server gave; it must be this server's.

        Raises:
            RemoteError: It is another's; and as `get`.
        """
        if _origin(url) != _origin(self.url):
            raise RemoteError(f"{self.url} wants a file fetched from {url[:100]!r}: nothing is asked of other hosts")
        return self._ask("GET", url)[1]

    def find(self, path: str) -> dict | None:
        """The JSON object there, or None where this server has none: it is asked what it is.

        Raises:
            RemoteError: It wants a key, or leads elsewhere.
            Trouble: It fails.
        """
        try:
            found = self._json(*self._ask("GET", path, timeout=min(self.timeout, _PROBE)))
        except RemoteError as error:
            if error.code not in ("404", "405"):
                raise
            return None
        except Trouble as trouble:
            if not isinstance(trouble.__cause__, ValueError):
                raise
            return None
        return found if isinstance(found, dict) else None

    # --- details ---------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, *, timeout: float | None = None, **arguments: Any) -> tuple[str, bytes]:
        """The media type and the body of a good answer."""
        timeout = timeout or self.timeout
        deadline = time.monotonic() + timeout
        address = path if "://" in path else self.url + path
        try:
            with self._session.request(
                method,
                address,
                stream=True,
                allow_redirects=False,
                timeout=(min(timeout, _PROBE), timeout),
                **arguments,
            ) as response:
                if response.is_redirect or 300 <= response.status_code < 400:
                    place = response.headers.get("Location", "nowhere")[:200]
                    raise RemoteError(f"{self.url} leads on to {place}: give that address, if you trust it")
                body = self._body(response, deadline)
                if response.status_code < 300:
                    return response.headers.get("Content-Type", ""), body
                self._refuse(response, body)
        except requests.exceptions.SSLError as error:
            raise RemoteError(
                f"{self.url} has a certificate that is not trusted ({_cause(error)}): set REQUESTS_CA_BUNDLE to the "
                "file of the authority that you trust"
            ) from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            slow = not isinstance(error, requests.ConnectTimeout)
            raise Trouble(f"no answer within {timeout:g} s", lasting=slow) from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise Trouble(_cause(error)) from error
        except requests.RequestException as error:
            raise RemoteError(f"{self.url} cannot be asked ({_cause(error)})") from error
        raise AssertionError("an answer is good or refused")

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        blocks, size = [], 0
        read = getattr(response.raw, "read1", response.raw.read)  # which returns what is there, for the clock's sake
        while block := read(1 << 16, decode_content=True):
            blocks.append(block)
            size += len(block)
            if size > self._longest:
                raise Trouble(f"it answers with more than {self._longest >> 20} MB", lasting=True)
            if time.monotonic() > deadline:
                raise Trouble(f"its answer took more than {self.timeout:g} s", lasting=True)
        return b"".join(blocks)

    def _refuse(self, response: requests.Response, body: bytes) -> None:
        status = response.status_code
        said, code = _read_error(body)
        shown = f"HTTP {status} {response.reason or HTTPStatus(status).phrase}" + (f": {said}" if said else "")
        if status in _PASSING:
            try:
                wait = Retry().get_retry_after(response.raw)
            except urllib3.exceptions.HTTPError:
                wait = None
            raise Trouble(shown, wait=wait)
        hint = f"; set {self._key_place}" if status in (401, 403) else ""
        raise RemoteError(f"{self.url} says {shown}{hint}", code or str(status))

    def _json(self, kind: str, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            what = "a web page (HTML)" if "html" in kind or body.lstrip()[:1] == b"<" else "what is no JSON"
            raise Trouble(f"it answers with {what}", lasting=True) from ValueError(str(error))


def read_key(variable: str) -> str | None:
    """The key that is in the environment; None where there is none.

    Raises:
        ValueError: No HTTP header can hold it.
    """
    key = os.environ.get(variable)
    if key and not (key.isascii() and key.isprintable()):
        raise ValueError(f"the key in {variable} has characters that no HTTP header can hold")
    return key or None


def is_loopback(url: str) -> bool:
    """Whether a URL is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_PASSING = (408, 425, 429, 500, 502, 503, 504)
_PROBE = 10.0  # seconds to reach a server, and for it to say what it is


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _read_error(body: bytes) -> tuple[str, str]:
    """What the server says is wrong, as a line, and its code: in the form of OpenAI, FastAPI, A1111 or ComfyUI."""
    try:
        said = json.loads(body)
        code = ""
        for _ in range(3):
            if isinstance(said, dict):
                code = str(said.get("code") or code)
                found = (said.get(key) for key in ("error", "detail", "errors", "message", "msg"))
                said = next((value for value in found if value), "")
            elif isinstance(said, list):
                said = said[0] if said else ""
    except (ValueError, RecursionError):
        return "", ""
    text = " ".join(str(said).split())
    return (text[:300] if text.isprintable() else ""), code


def _cause(error: BaseException) -> str:
    """Why, in a few words: what the system says, inside of what urllib3 and requests make of it."""
    inner: BaseException = error
    while not getattr(inner, "strerror", None):
        parts = (getattr(inner, "reason", None), *inner.args, inner.__cause__)
        following = next((part for part in parts if isinstance(part, BaseException)), None)
        if following is None:
            break
        inner = following
    text = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or str(inner)
    return " ".join(text.split())[:200] or type(inner).__name__

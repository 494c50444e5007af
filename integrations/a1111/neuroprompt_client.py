"""Asks a neuroprompt server for rewrites, with the standard library alone: this lives in another program's environment.

ComfyUI's node and A1111's script have this file each.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8765"
START = "neuroprompt serve --generator none --rewards none"
TIMEOUT = 130.0  # seconds; the server itself gives up after 120
AT_ONCE = 32  # prompts of a request, which is what a server takes by default
PICTURES = 16  # and what it draws for one
FAMILIES = (
    *("sd15", "sd21", "sd-turbo", "sdxl", "sdxl-turbo", "sd35", "sd35-turbo", "flux", "flux-schnell", "flux2"),
    *("qwen-image", "z-image", "z-image-turbo"),
)


class ServerError(RuntimeError):
    """Why there is no rewrite: a line for a person, that says what to do."""


def enhance(
    prompts: Sequence[str], url: str = DEFAULT_URL, key: str = "", seeds: Sequence[int] = (), **wish: Any
) -> list[list[dict[str, Any]]]:
    """The variants of each prompt, in order: ``text``, ``negative``, ``modifiers``, ``warning`` and what else is said.

    Args:
        url: The server's address.
        key: What it was given as NEUROPROMPT_API_KEY, if anything.
        seeds: One for each prompt; none is 0 for all.
        wish: Other fields of ``POST /v1/enhance``, such as what `read_wish` and `read_asking` give.

    Raises:
        ServerError: It is not there, or refuses.
    """
    results = []
    drawn = 2 * wish.get("if_better", 0) * wish.get("num_return_sequences", 1)  # for a prompt, at most
    at_once = min(AT_ONCE, max(1, PICTURES // drawn)) if drawn else AT_ONCE
    for start in range(0, len(prompts), at_once):
        part = slice(start, start + at_once)
        body = {"prompts": list(prompts[part]), **({"seeds": list(seeds[part])} if seeds else {}), **wish}
        results += _post(url.strip().rstrip("/"), key, body)
    return results


def read_wish(require: str = "", forbid: str = "", **categories: str) -> dict[str, Any]:
    """What a person typed, as fields of a request.

    Args:
        require, forbid: Phrases, between commas or each on a line.
        categories: "baroque", "baroque|art deco" for either, "auto" for any that the policy likes; blank is nothing.
    """
    typed = {category: phrase.strip() for category, phrase in categories.items() if phrase.strip()}
    auto = [category for category, phrase in typed.items() if phrase.casefold() == "auto"]
    wish = {category: phrase for category, phrase in typed.items() if category not in auto}
    return wish | {"auto": auto, "require": _phrases(require), "forbid": _phrases(forbid)}


def read_asking(
    model: str = "",
    family: str = "",
    keep: str = "",
    free: bool = False,
    negative: str = "",
    instruction: str = "",
    if_better: float | None = 0,
) -> dict[str, Any]:
    """Who is asked, and how, as fields of a request; what is blank is left to the server.

    Args:
        family: One of `FAMILIES`; "any" is blank, too.
        keep: Phrases that stay to the letter, as in `read_wish`.
        free: Whether a model that retells may leave out words of the prompt.
        if_better: The pictures, of prompt and rewrite each, that decide at most whether the rewrite comes back; 0 for
            no such decision.
    """
    family = "" if family == "any" else family
    typed = {"model": model, "for": family, "negative": negative, "instruction": instruction}
    asked: dict[str, Any] = {name: text.strip() for name, text in typed.items() if text.strip()}
    phrases = _phrases(keep)
    asked |= ({"keep": phrases} if phrases else {}) | ({"keep_words": False} if free else {})
    return asked | ({"if_better": int(if_better)} if if_better else {})


# --- details -----------------------------------------------------------------------------------------------------


def _phrases(typed: str) -> list[str]:
    return [phrase.strip() for phrase in typed.replace("\n", ",").split(",") if phrase.strip()]


def _post(url: str, key: str, body: dict[str, Any]) -> list[list[dict[str, Any]]]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ServerError(f"{url!r} is no address of a neuroprompt server: give one such as {DEFAULT_URL}")
    headers = {"Content-Type": "application/json", "User-Agent": "neuroprompt"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url}/v1/enhance", json.dumps(body).encode(), headers)
    try:
        with _opener(url).open(request, timeout=TIMEOUT) as answer:
            results = json.load(answer)["results"]
        if len(results) != len(body["prompts"]):
            raise ValueError
        return results
    except urllib.error.HTTPError as error:
        said = _said(error)
        hint = "; its key belongs in the variable NEUROPROMPT_API_KEY" if error.code in (401, 403) else ""
        if "Extra inputs are not permitted" in said:
            hint = "; it is older than this: update neuroprompt there, or leave that out"
        raise ServerError(f"{url} says {error.code}: {said}{hint}") from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise ServerError(
            f"no neuroprompt server answers at {url} ({why}): start one with `{START}`, or set NEUROPROMPT_URL to yours"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise ServerError(f"what answers at {url} is no neuroprompt server") from None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Without redirects, since prompt and key are for this server alone; to this machine without a proxy."""
    local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    return urllib.request.build_opener(_Stay, *[urllib.request.ProxyHandler({})] * local)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _said(error: urllib.error.HTTPError) -> str:
    """The server's own line, or HTTP's."""
    try:
        return str(json.load(error)["error"]["message"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return str(error.reason)

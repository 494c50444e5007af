"""Proposals of a chat model behind an OpenAI-compatible URL (llama.cpp, vLLM, Ollama, a hosted one).

The model sees the best rewrites so far with what their pictures are worth, worst first, and writes others (OPRO, Yang
et al. 2023). It is an extra: where it does not answer, the search says so once and goes on without it.
"""

import json
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from neuroprompt.prompts import Prompt, modifier_key, normalise


class ChatError(OSError):
    """A chat model that does not answer, or says what cannot be read. One line."""


class Chat:
    """A chat model that proposes modifiers.

    Args:
        url: Up to and with the version, such as ``http://localhost:8080/v1``.
        model: Its name there.
        api_key: Sent as a bearer token, to this host alone, and kept nowhere.
        count: Rewrites asked for at a time.
        temperature: Of its sampling.
        timeout: Seconds to wait for an answer.
        retries: How often a request is sent again where the server is busy, fails or cannot be reached; at once, then
            after 2, 4, … seconds, or when the server asks for it, 60 seconds later at most.
        connections: Requests at a time, for searches over many prompts.

    Attributes:
        offline: Why it is not asked any more; None while it answers.

    Raises:
        ValueError: The URL is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        count: int = 4,
        temperature: float = 1.0,
        timeout: float = 60.0,
        retries: int = 3,
        connections: int = 8,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a chat model: give one such as http://localhost:8080/v1")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the chat model's key has characters that no HTTP header can hold")
        self.url, self.model, self.count, self.temperature = url.rstrip("/"), model, count, temperature
        self.timeout, self.connections = timeout, connections
        self.offline: str | None = None
        patience = _Patience(
            retries,
            status_forcelist=(408, 409, 425, 429, 500, 502, 503, 504),
            allowed_methods=None,  # all: to be asked again costs the server no more than time
            backoff_factor=1,
            backoff_max=_LONGEST_WAIT,
            raise_on_status=False,
        )

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if api_key:
                request.headers["Authorization"] = f"Bearer {api_key}"
            return request

        self._session = requests.Session()
        self._session.auth = sign  # nor anything out of a .netrc
        self._session.headers["User-Agent"] = "neuroprompt"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=patience))

    def __call__(self, wishes: Sequence["Wish"], seed: int) -> list[list[tuple[str, ...]]]:
        """Lists of modifiers for each wish; empty where the model is offline, which is warned of once."""
        if self.offline or not wishes:
            return [[] for _ in wishes]
        pool = ThreadPoolExecutor(min(self.connections, len(wishes)))
        try:
            return list(pool.map(lambda wish: self._propose(wish, seed), wishes))
        finally:  # Ctrl-C does not wait for answers
            pool.shutdown(wait=False, cancel_futures=True)

    def _propose(self, wish: "Wish", seed: int) -> list[tuple[str, ...]]:
        if self.offline:
            return []
        try:
            return read_answer(self.ask(_instruction(wish, self.count), seed), wish.prompt)[: self.count]
        except ChatError as error:
            if not self.offline:
                self.offline = str(error)
                warnings.warn(f"going on without the chat model: {error}", stacklevel=2)
            return []

    def ask(self, content: str, seed: int) -> str:
        """The model's answer to one message.

        Raises:
            ChatError: It cannot be had, after all retries.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "seed": seed % 2**31,
            "max_tokens": 120 * self.count,
        }
        try:
            with self._session.post(
                f"{self.url}/chat/completions",
                json=body,
                timeout=self.timeout,
                stream=True,
                allow_redirects=False,  # which would carry the key to another host
            ) as response:
                if response.status_code // 100 != 2:
                    raise ChatError(f"{self.url} says HTTP {response.status_code} {response.reason}")
                data = b""
                for block in response.iter_content(1 << 16):
                    data += block
                    if len(data) > _LONGEST:
                        raise ValueError
            text = json.loads(data)["choices"][0]["message"]["content"]
            if not isinstance(text, str):
                raise TypeError
        except requests.RequestException as error:  # no route, refused, timed out
            why = getattr(error.args[0], "reason", error) if error.args else type(error).__name__
            raise ChatError(f"{self.url} cannot be reached ({str(why).split(': ', 1)[-1]})") from error
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ChatError(f"{self.url} gave no chat completion") from error
        return text


class _Patience(Retry):
    """Waits as long as the server asks for, within bounds."""

    def parse_retry_after(self, retry_after: str) -> float:
        return min(_LONGEST_WAIT, super().parse_retry_after(retry_after))


class Wish(NamedTuple):
    """What is asked of the chat model: other rewrites of a prompt, given the best so far with their values."""

    prompt: str
    best: Sequence[tuple[str, float]]
    required: Sequence[Sequence[str]] = ()
    forbidden: Sequence[str] = ()


def read_answer(answer: str, prompt: str) -> list[tuple[str, ...]]:
    """The lists of modifiers in a chat model's answer, one a line; what is no such list is left out.

    Numbering, bullets, quotes and code fences go, and so does the prompt where a line repeats it.
    """
    found = []
    answer = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL)
    own = {modifier_key(segment) for segment in Prompt.parse(prompt).segments}
    for line in answer.splitlines():
        line = normalise(_BULLET.sub("", line).strip(" \t`\"'*"))
        if line.casefold().startswith(prompt.casefold()):
            line = line[len(prompt) :]
        segments = [s.strip("\"'*` ") for s in Prompt.parse(line).segments]
        segments = [s for s in segments if s and modifier_key(s) not in own and len(s.split()) <= 8]
        if len(segments) >= 2:  # "Here are some suggestions:" is no list
            found.append(tuple(segments[:20]))
    return found


_LONGEST = 1 << 20  # bytes of an answer that are read
_LONGEST_WAIT = 60.0  # seconds
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s*")


def _instruction(wish: Wish, count: int) -> str:
    lines = [
        "You improve prompts for a text-to-image model by adding modifiers: artists, styles, formats, perspectives, "
        "quality words, light and mood.",
        f"The prompt: {wish.prompt}",
    ]
    if wish.best:
        lines.append("Rewrites tried so far, each with the score of its pictures, the worst first:")
        lines += [f"{value:+.3f}  {text}" for text, value in sorted(wish.best, key=lambda pair: pair[1])]
    if wish.required:
        every = "; ".join(" or ".join(phrases[:5]) for phrases in wish.required)
        lines.append(f"Every list must have: {every}.")
    if wish.forbidden:
        lines.append(f"No list may have: {'; '.join(wish.forbidden)}.")
    lines.append(
        f"Write {count} other lists of 4 to 10 modifiers that would score higher, one list a line, separated by "
        "commas, without the prompt itself, numbers or explanations."
    )
    return "\n".join(lines)

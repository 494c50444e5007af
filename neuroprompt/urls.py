"""The addresses of servers, as a user gives them."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit


def read_urls(parts: Iterable[str], of: str, key: str) -> tuple[str, ...]:
    """The addresses up to where an API begins, without what its clients are told to put behind (``/v1``, ``/sdapi``).

    Args:
        of: What is there, for whoever has given another address: "a generator".
        key: What to do instead of writing a password into one, which would be written into results.

    Raises:
        ValueError: One is no URL, is there twice, or holds a password.
    """
    urls: list[str] = []
    for part in parts:
        url, shown = re.sub(r"(/sdapi)?(/v1)?/*$", "", part), part.rpartition("@")[2]
        try:
            pieces = urlsplit(url)
            good = pieces.scheme in ("http", "https") and pieces.hostname and (pieces.port is None or pieces.port > 0)
        except ValueError:
            good = False
        if not good or pieces.query or pieces.fragment:
            raise ValueError(f"{shown!r} is no URL of {of}: give one such as http://127.0.0.1:7860")
        if "@" in pieces.netloc:
            raise ValueError(f"the URL of {shown} holds a password: {key} instead")
        if url in urls:
            raise ValueError(f"{url} is given twice")
        urls.append(url)
    return tuple(urls)

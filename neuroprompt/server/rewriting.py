"""Prompts in, rewrites out, for every route: the policy's, or what the operator says for when it is down."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from neuroprompt.decoding import Constraints
from neuroprompt.server.work import Rewrite
from neuroprompt.server.workers import Workers


async def rewrite(
    workers: Workers, prompts: Sequence[str], wish: Constraints | None = None, decoding: Mapping[str, Any] | None = None
) -> list[list[dict[str, Any]]]:
    """The variants of each prompt, each as `EnhancedPrompt.to_dict()`.

    Args:
        decoding: Settings of `enhancer.Decoding`, such as ``{"seed": 7}``; `batch_size` is not among them.

    Raises:
        Problem: There is no policy, and no fallback.
        ValueError: A prompt or the wish cannot be met; one line for whoever asked.
    """
    settings = tuple(sorted((decoding or {}).items()))
    asked = [asyncio.ensure_future(workers.ask("policy", Rewrite(p, wish or None, settings))) for p in prompts]
    try:
        return await asyncio.gather(*asked)
    finally:
        for one in asked:  # of those that one that failed, or a client that left, makes useless
            one.cancel()

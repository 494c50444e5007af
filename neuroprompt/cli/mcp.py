"""`neuroprompt mcp`: the tools of an assistant."""

import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

from neuroprompt.cli.app import command, option
from neuroprompt.cli.options import (
    Device,
    DrawingOptions,
    Family,
    Generator,
    RewardOptions,
    check_folder,
    find,
    load_policy,
    reads,
)
from neuroprompt.extras import MissingExtra
from neuroprompt.server.settings import by_name


@command(
    "neuroprompt mcp",
    "neuroprompt mcp --folder pictures --generator http://127.0.0.1:8765",
    extras=["mcp"],
)
def mcp(
    *,
    folder: str | None = option(
        None, "Where pictures are put, and may be scored by name; without it no file is written, and none is read."
    ),
    model: list[str] | None = option(
        None,
        "A policy that rewrites: embedded, embedded-ppo, retell, a folder or a hub id (chat models, too), or a YAML "
        "file. Repeatable: the first is asked by default, and another is loaded when it is asked.",
        "-m",
        envvar="NEUROPROMPT_MODEL",
        show_default="embedded",
    ),
    family: Family = None,
    search_model: str = option("embedded", "The policy that proposes to a search, which wants what differs."),
    device: Device = None,
    generator: Generator = "embedded",
    drawing: DrawingOptions,
    rewards: RewardOptions,
) -> None:
    """Give an assistant tools, by the Model Context Protocol over standard input and output.

    Its client starts this program, and ends it. The tools rewrite prompts, list modifiers, score pictures, draw prompts
    side by side, and search for the best one.
    """
    policies = by_name(model or ["embedded"])
    for policy in (*policies.values(), search_model):
        find(policy, "policy")
    made_for, _ = reads(generator, family)
    with suppress(MissingExtra):  # without which the tools that draw say so, and the others are there
        drawing.check(generator)
    if folder is not None:
        check_folder(folder)
        Path(folder).mkdir(parents=True, exist_ok=True)
    from neuroprompt.mcp import Models, create_server

    policy_of = cache(lambda name: load_policy(name, device))
    generator_of = cache(lambda name: drawing.load(name, device))
    models = Models(
        policy=lambda name: policy_of(policies[name]),
        searcher=lambda: policy_of(search_model),
        generator=lambda: generator_of(generator),
        rewards=cache(lambda: rewards.load([generator_of(generator).name], device)),
        names=tuple(policies),
        family=made_for,
    )
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # or the thread that reads would be waited for, until its input ends
    create_server(models, None if folder is None else Path(folder)).run("stdio")

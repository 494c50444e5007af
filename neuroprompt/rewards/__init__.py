"""Rewards of pictures: what each of several published models says of a picture and the prompt that it was wished with.

    reward = load_reward("pickscore", model="embedded")
    reward(["boy on a horse"], images)                     # (1,) float32; images (1, 3, H, W) in [0, 1]

    rewards = load_rewards("pickscore:1.0,aesthetic:0.25,clip:0.5@0.28")
    scores = rewards(prompts, images)                      # {"pickscore": (n,), "aesthetic": (n,), "clip": (n,)}

Of every reward more is better. One behind a URL is ``http://host:port/hps`` in a spec (see `remote`). One of one's own
is a function in a file, ``my_file.py:my_reward`` (see `own`); or in Python any object that is an `ImageReward`, put
into a `Component`, and that into a `RewardSet`.

A reward that ships is a module here with a `load`, and its name in `REWARDS`.
"""

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neuroprompt.models import pick_device

from .composite import PLAIN, Cap, Component, RewardSet
from .encoders import Encoders
from .loading import pick_dtype
from .own import NAME, OwnReward, check_function

__all__ = ["PLAIN", "REWARDS", "Cap", "Component", "ImageReward", "RewardSet", "load_reward", "load_rewards"]


class ImageReward(Protocol):
    """Scores pictures for prompts: the more, the better.

    Attributes:
        name: What it is called in a reward set.
        fingerprint: A hash of everything its scores depend on besides prompt and picture; a key for caches on disk.

    One that has the attribute `reads_text`, and it is true, is called with a third argument: the texts that were drawn.
    """

    name: str
    fingerprint: str

    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] on any device; prompts[i] belongs to images[i]."""
        ...


_SHIPPED = ("pickscore", "clip", "aesthetic", "hps", "image_reward", "vqa", "echo", "atoms", "length", "artefacts")

REWARDS: dict[str, Callable[..., ImageReward]] = {name: import_module(f"{__name__}.{name}").load for name in _SHIPPED}
"""What loads a reward: the `load` of the module of that name."""


def load_reward(
    name: str,
    model: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    encoders: Encoders | None = None,
    **options,
) -> ImageReward:
    """Load a reward.

    Args:
        name: One of `REWARDS`, or the user's own: ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``.
        model: ``embedded``, a folder or file, or a hub id; ``published``, the reward's own weights, by default. What
            each reward knows stands in its module. URLs, with commas, are those of servers that have a reward of this
            name, whatever it is, and share the work (see `remote`).
        device: Such as ``cuda``; by default the accelerator if there is one.
        dtype: ``fp32``, ``fp16`` or ``bf16``; by default float32 on a CPU and float16 elsewhere.
        encoders: Where CLIPs are looked for and kept, so that rewards share them; it has its own device and dtype.
        options: Of the reward's own `load`.

    Raises:
        ValueError: There is no such reward, dtype or option, or the user's own cannot be loaded.
        ModelError: The model cannot be loaded; pickled weights are refused, but for the published ones that exist as
            pickles only, which are read without running any code.
    """
    if ":" in name and not options:
        return OwnReward(name)
    if is_url(model):
        from . import remote  # what asks servers is loaded where one is asked

        return remote.load(name, [url.strip() for url in str(model).split(",")])
    if name not in REWARDS:
        raise ValueError(f"there is no reward {name!r}: {_CHOICE}")
    load = REWARDS[name]
    known = list(inspect.signature(load).parameters)[2:]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"the reward {name} has no option {unknown[0]!r}: it has {', '.join(known) or 'none'}")
    if encoders is None:
        device = pick_device(device)
        encoders = Encoders(device, pick_dtype(dtype, device))
    return load(chosen_model(model), encoders, **options)


def chosen_model(*names: str | Path | None) -> str | Path | None:
    """The first of the models that is named; None, the reward's own weights, for ``published``."""
    return next((None if name == "published" else name for name in names if name), None)


def load_rewards(
    spec: str,
    model: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    atoms: str | Path | None = None,
) -> RewardSet:
    """Load the rewards of a spec such as ``pickscore:1.0,clip[ViT-L-14:openai]:0.5@0.28,my_file.py:my_reward:0.5``.

    A spec is a list of ``name[model]:weight@cap`` between commas, where model, weight (1 by default) and cap may be
    left out. The cap is a number, or ``plain``, the score of the plain prompt's picture with the same seed. A reward
    behind servers is ``name[http://a:8808,http://b:8808]``, or of one server ``http://a:8808/name``. One that is there
    twice, with different models, is called ``name[model]`` in the set; the user's own goes by the function's name, and
    where another has that, by all of its own.

    Args:
        model: Of the rewards whose model the spec does not say.
        device, dtype: As for `load_reward`.
        atoms: The question file of `atoms`.

    Raises:
        ValueError: The spec is not one, the message shows the part that is wrong; or the file is no question file.
        ModelError: A model cannot be loaded.
    """
    parts = parse_spec(spec)
    device = pick_device(device)
    encoders = Encoders(device, pick_dtype(dtype, device))
    names = Counter(part.name.rpartition(":")[2] for part in parts)
    # What is wrong with the user's own comes out before models are loaded.
    own = {name: OwnReward(name) for name, *_ in parts if ":" in name}
    components = []
    for name, own_model, weight, cap in parts:
        chosen = chosen_model(own_model, model)
        options = {"questions": atoms} if atoms and name == "atoms" and not is_url(chosen) else {}
        reward = own.get(name) or load_reward(name, chosen, encoders=encoders, **options)
        if names[reward.name] > 1 and (name in own or chosen is not None):
            reward.name = name if name in own else f"{name}[{chosen}]"
        components.append(Component(reward, weight, cap))
    return RewardSet(components)


class SpecPart(NamedTuple):
    """A component as a spec names it."""

    name: str
    model: str | None
    weight: float
    cap: Cap


def is_url(model: str | Path | None) -> bool:
    """Whether what is given for a model are the URLs of servers."""
    return str(model).startswith(("http://", "https://"))


def parse_spec(spec: str) -> list[SpecPart]:
    """Read ``name[model]:weight@cap, …`` without loading anything.

    Raises:
        ValueError: It is not one, or a file or module of the user's own is not there; the message shows the part that
            is wrong.
    """
    parts = [_parse_part(text.strip(), spec) for text in re.split(r",(?![^\[]*\])", spec)]
    counts = Counter((part.name, part.model) for part in parts)
    if twice := [name for (name, _), count in counts.items() if count > 1]:
        raise ValueError(f"the reward spec {spec!r} has {twice[0]} twice: give one weight, or different [models]")
    return parts


_CHOICE = f"choose from {', '.join(REWARDS)}, or write FILE.py:FUNCTION"
_COUNTS = r"(?::(?P<weight>[^:@\[\]]+))?(?:@(?P<cap>[^:@\[\]]+))?"
_PART = re.compile(
    rf"(?P<name>(?!(?:{'|'.join(REWARDS)}|https?):){NAME.pattern}|[^\[\]:@]+)(?:\[(?P<model>[^\[\]]+)\])?{_COUNTS}"
)
_BEHIND_URL = re.compile(rf"(?P<model>https?://(?:\[[^\]/]*\])?[^\[\]\s?#]+)/(?P<name>\w[\w.-]*){_COUNTS}")


def _parse_part(text: str, spec: str) -> SpecPart:
    match = (_BEHIND_URL if is_url(text) else _PART).fullmatch(text)
    if not match and is_url(text):
        raise ValueError(f"{text!r} names no reward of a server: write http://HOST:PORT/NAME, such as …:8808/hps")
    if not match or (match["model"] and ":" in match["name"]):
        shown = f"{text!r} in the reward spec {spec!r}" if text else f"an empty part of the reward spec {spec!r}"
        raise ValueError(f"cannot read {shown}: write name[model]:weight@cap, such as clip[ViT-L-14:openai]:0.5@0.28")
    name = match["name"].strip()
    if ":" in name:
        check_function(name)
    elif name not in REWARDS and not is_url(match["model"]):
        raise ValueError(f"there is no reward {name!r} (in {text!r}): {_CHOICE}")
    weight = _number(match["weight"], "weight", text)
    cap = PLAIN if match["cap"] == PLAIN else _number(match["cap"], "cap", text)
    return SpecPart(name, match["model"], 1.0 if weight is None else weight, cap)


def _number(text: str | None, what: str, part: str) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        wanted = "a number" if what == "weight" else f"a number or {PLAIN}"
        raise ValueError(f"the {what} in {part!r} must be {wanted}, not {text!r}")
    return value

"""Everything that an operator sets, in one place: the options of `neuroprompt serve`, and of
`serve-rewards`, each also in the environment.

A field is an option of its name, ``--max-prompts``, and the variable ``NEUROPROMPT_MAX_PROMPTS``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import typer

from neuroprompt.families import Family, family_of, find_family
from neuroprompt.models import RETELLER

FALLBACKS = ("none", "plain", "suffix")
JUDGES = "pickscore:1,aesthetic:0,clip:0,vqa[embedded]:0"
"""Of the embedded generator's pictures. `vqa`, which reads them, is cheap beside the drawing, as small as it is."""
_OWN = "the model's own"


def setting(panel: str, default: Any, help: str, secret: bool = False, **others: Any) -> Any:
    """A field that the command line reads: the panel of the help that it is in, its help in a sentence, and others of
    `typer.Option`. What is secret is in no representation of the settings."""
    return field(default=default, repr=not secret, metadata={"rich_help_panel": panel, "help": help, **others})


@dataclass(frozen=True)
class ServerSettings:
    """What every server has: an address, and who may ask what of it."""

    PANEL: ClassVar = "Server"
    ENVIRONMENT: ClassVar = "NEUROPROMPT_"

    host: str = setting("Server", "127.0.0.1", "The address to listen at; any but this machine's own wants a key.")
    port: int = setting("Server", 8765, "The port; 0 is any that is free.", min=0, max=65535)
    api_key: str | None = setting("Server", None, "The key that requests must bear.", secret=True)
    api_keys_file: str | None = setting("Server", None, "A file of keys, one a line, any of which will do.")
    cors_origin: list[str] | None = setting(
        "Server", None, "A web page's origin that may ask, such as https://example.org. Repeatable."
    )

    max_body: int = setting("Limits", 2_000_000, "The bytes of a request, at most.", min=1)
    max_prompts: int = setting("Limits", 32, "The prompts of a request, at most.", min=1)
    max_prompt_length: int = setting("Limits", 2_000, "The characters of a prompt, or of a phrase, at most.", min=1)
    max_concurrent: int = setting("Limits", 512, "The requests that are in the house at once, at most.", min=1)
    rate_limit: int = setting("Limits", 0, "The requests a minute of one key, or of one address; 0 is any.", min=0)
    timeout: float = setting("Limits", 120, "The seconds that a request may take.", min=0.1)

    def __post_init__(self):
        if not self.loopback and not self.keys:
            raise ValueError(
                f"host {self.host} can be reached from other machines: set --api-key (or NEUROPROMPT_API_KEY), or "
                "leave the host out"
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """Of `work.PARTS`, those that are served."""
        raise NotImplementedError

    @property
    def dispensable(self) -> frozenset[str]:
        """The parts without which the server is ready."""
        return frozenset()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host == "localhost" or is_loopback(self.host)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys any of which a request must bear; none where whoever reaches the server may ask.

        Raises:
            ValueError: The file cannot be read or holds none, or a key is no word of ASCII.
        """
        keys = [] if self.api_key is None else [self.api_key]
        if self.api_keys_file is not None:
            keys += [line.strip() for line in Path(self.api_keys_file).read_text("utf-8").splitlines() if line.strip()]
            if not keys:
                raise ValueError(f"{self.api_keys_file} holds no keys: write one a line")
        for key in keys:
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError("a key must be ASCII without spaces: make one with `openssl rand -hex 32`")
        return tuple(keys)


@dataclass(frozen=True)
class ServeSettings(ServerSettings):
    """How `neuroprompt serve` is run."""

    votes: str | None = setting(
        "Server",
        None,
        "A file for blind votes on rewrites (SQLite), made where there is none; without one nobody votes.",
    )

    model: list[str] | None = setting(
        "Models",
        None,
        "A policy that rewrites: embedded, embedded-ppo, retell, a folder or a hub id (chat models, too), or a YAML "
        "file. Repeatable: the first is asked by default, and another is loaded when somebody asks it.",
        show_default="embedded",
    )
    family: str | None = setting(
        "Models",
        None,
        "The family of generators that rewrites are for, where nobody says it, such as sdxl or flux.",
        names=("--for",),
        show_default="what the generator's name says",
    )
    generator: str = setting(
        "Models",
        "embedded",
        "What draws: embedded, a folder, a hub id, the address of a generator that runs already, or none.",
    )
    rewards: str = setting(
        "Models",
        "",
        "What judges pictures, as `neuroprompt score` takes it, or none.",
        show_default=f"{JUDGES} with the embedded generator, none with others",
    )
    reward_model: str | None = setting(
        "Models",
        None,
        "Where the rewards' models come from: embedded, or published.",
        show_default="embedded with the embedded generator",
    )
    device: str | None = setting(
        "Models", None, "The device of all models: cpu, cuda, cuda:1 …; by default the accelerator if there is one."
    )
    workers: int = setting("Models", 1, "The processes that rewrite, each with a copy of the policy.", min=1, max=64)
    batch_size: int = setting("Models", 160, "The sequences that a process decodes at once.", min=1)
    fallback: str = setting(
        "Models",
        "none",
        "What is answered, with a warning, while no policy is there: an error (none), the prompt as it is (plain), or "
        "with the most frequent modifiers behind it (suffix).",
    )

    steps: int | None = setting("Drawing", None, "The denoising steps.", min=1, max=1000, show_default=_OWN)
    guidance: float | None = setting("Drawing", None, "The scale of the guidance.", show_default=_OWN)
    size: str | None = setting("Drawing", None, "The size: 512, or 768x512.", show_default=_OWN)
    negative: str | None = setting("Drawing", None, "The negative prompt.", show_default=_OWN)

    generator_settings: list[str] | None = setting(
        "Drawing",
        None,
        "Any other setting of the generator, as name=value: scheduler=DPMSolverMultistepScheduler, "
        "workflow=comfyui.json … Repeatable.",
        names=("--set",),
    )

    block_list: str | None = setting(
        "Safety", None, "A file of terms, one a line, that the rewriter never adds; what users type stays."
    )
    check_prompts: str | None = setting(
        "Safety",
        None,
        "A file of terms, one a line, that users may not type; behind a colon the phrases beside which one means no "
        "harm, as in `naked : mole rat`.",
    )
    check_pictures: float | None = setting(
        "Safety",
        None,
        "Send no picture that open_nsfw scores as high as this, from 0 to 1; 0.8 is very likely pornography.",
        min=0,
        max=1,
    )

    max_variants: int = setting("Limits", 16, "The variants of a prompt, or the beams of its search, at most.", min=1)
    max_pictures: int = setting("Limits", 16, "The pictures of a request, at most.", min=1)
    max_pixels: int = setting("Limits", 2**22, "The pixels of a picture that is asked for, at most.", min=64)

    def __post_init__(self):
        if not self.rewards:
            object.__setattr__(self, "rewards", JUDGES if self.generator == "embedded" else "none")
        object.__setattr__(self, "model", self.model or ["embedded"])
        by_name(self.model)
        if self.family is not None:
            find_family(self.family)
        if self.fallback not in FALLBACKS:
            raise ValueError(f"fallback is {self.fallback!r}: give one of {', '.join(FALLBACKS)}")
        super().__post_init__()

    @property
    def parts(self) -> tuple[str, ...]:
        drawn, judged = self.generator != "none", self.rewards != "none"
        return ("policy", *["generator"] * drawn, *["rewards"] * judged)

    @property
    def dispensable(self) -> frozenset[str]:
        return frozenset() if self.fallback == "none" else frozenset({"policy"})

    @property
    def reward_source(self) -> str:
        """Where the rewards' models come from."""
        return self.reward_model or ("embedded" if self.generator == "embedded" else "published")

    @property
    def policies(self) -> dict[str, str]:
        """The policies, by the names that requests know them by; the first is the default."""
        return by_name(self.model)

    @property
    def made_for(self) -> Family | None:
        """The family of generators that rewrites are for where a request says none."""
        if self.family is not None:
            return find_family(self.family)
        return None if "://" in self.generator else family_of(self.generator)


@dataclass(frozen=True)
class RewardServerSettings(ServerSettings):
    """How `neuroprompt serve-rewards` is run; pictures come to it as they are, so that its requests are long."""

    PANEL: ClassVar = "Serving rewards"

    rewards: str = setting(
        PANEL,
        ...,
        "The rewards, as `neuroprompt score` takes them, without weights: pickscore,hps,my_file.py:my_reward.",
        make=typer.Argument,
    )
    reward_model: str | None = setting(
        PANEL,
        None,
        "Where the rewards' models come from: embedded, or published.",
        show_default="published",
    )
    device: str | None = setting(
        PANEL, None, "The device of all models: cpu, cuda, cuda:1 …; by default the accelerator if there is one."
    )
    port: int = setting(PANEL, 8808, "The port; 0 is any that is free.", min=0, max=65535)
    max_body: int = setting(PANEL, 64_000_000, "The bytes of a request, at most.", min=1)
    max_prompts: int = setting(PANEL, 64, "The pictures of a request, at most, each with its prompt.", min=1)
    max_concurrent: int = setting(PANEL, 32, "The requests that are in the house at once, at most.", min=1)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("rewards",)

    @property
    def reward_source(self) -> str:
        """Where the rewards' models come from."""
        return self.reward_model or "published"


def shown_name(model: str) -> str:
    """Of a model, without where it lies on this machine, or what an address says besides its host."""
    if "://" in model:
        return urlsplit(model).hostname or ""
    if model.startswith(f"{RETELLER}:"):
        return RETELLER
    return Path(model).name if Path(model).expanduser().exists() else model


def by_name(models: Sequence[str]) -> dict[str, str]:
    """Models by the names that requests know them by.

    Raises:
        ValueError: Two have the same.
    """
    named: dict[str, str] = {}
    for model in models:
        if named.setdefault(shown_name(model), model) != model:
            raise ValueError(f"two models are called {shown_name(model)!r}: rename the folder of {model}")
    return named


def is_loopback(host: str) -> bool:
    """Whether this is an address of this machine for itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

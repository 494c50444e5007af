"""The options that several commands share, in groups, and what a command gets of each: a wish, a model, a share.

What is wrong with an option comes out before PyTorch is loaded, which takes seconds, wherever that can be.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from neuroprompt.cli.app import argument, option
from neuroprompt.extras import need
from neuroprompt.families import FAMILIES, family_of, find_family
from neuroprompt.models import TUNED, locate
from neuroprompt.modifiers import CATEGORIES
from neuroprompt.prompts import CLIP_WINDOW, Window, WindowLike
from neuroprompt.terminal import counted, say

if TYPE_CHECKING:
    from neuroprompt import families
    from neuroprompt.decoding import Constraints
    from neuroprompt.enhancer import PromptEnhancer
    from neuroprompt.gate import Gate
    from neuroprompt.images import GeneratorConfig, ImageGenerator
    from neuroprompt.rewards import RewardSet, SpecPart
    from neuroprompt.scoring import PromptReward

# --- single options ----------------------------------------------------------------------------------------------

_MODEL = (
    ...,
    "The policy that rewrites: embedded, embedded-ppo, retell, a folder or a hub id (chat models, too), or a YAML file "
    "that says how somebody's model is asked.",
    "-m",
)
Model = Annotated[str, option(*_MODEL, envvar="NEUROPROMPT_MODEL")]
ModelForGenerator = Annotated[
    str | None,
    option(
        *_MODEL,
        envvar="NEUROPROMPT_MODEL",
        show_default="embedded-ppo with the embedded generator, embedded with others",
    ),
]
Generator = Annotated[
    str,
    option(
        ...,
        "What draws: embedded, a folder, a hub id, or the URL of a server that draws already (AUTOMATIC1111, Forge, "
        "ComfyUI, an OpenAI-style images API, neuroprompt serve); several URLs, with commas, share the work.",
        "-g",
        rich_help_panel="Drawing",
    ),
]
Family = Annotated[
    str | None,
    option(
        ...,
        f"The family of generators that prompts are for, which says how much is read of one: {', '.join(FAMILIES)}.",
        "--for",
        show_default="the generator's own",
    ),
]
Device = Annotated[
    str | None,
    option(
        ...,
        "The device of all models: cpu, cuda, cuda:1, mps, xpu …; by default the accelerator if there is one.",
        envvar="NEUROPROMPT_DEVICE",
    ),
]
Backend = Annotated[
    str,
    option(
        ...,
        "What the policy runs on: torch; numpy, which starts at once, for embedded policies and their like; or auto, "
        "which is numpy for up to 100 prompts where no device is given. The texts are the same.",
        autocompletion=lambda: ["auto", "torch", "numpy"],
    ),
]
PromptSource = Annotated[
    str,
    option(
        ...,
        "A .txt, .csv or .jsonl file of plain prompts, or a prompt set: partiprompts, drawbench, geneval, geneval2, "
        "dpg-bench, t2i-compbench, unigenbench, hpsv2, coco, diffusiondb; behind its name with a colon the folder or "
        "file of a set that is here. With :200 at the end, so many of them.",
        "--input",
        "-i",
    ),
]
ResultFolder = Annotated[str, option(..., "The folder for the results, which may hold a part of them.", "-o")]
ImagesPerPrompt = Annotated[
    int, option(..., "How many pictures are drawn of each prompt, with as many seeds.", min=1, max=10_000)
]
Seed = Annotated[int, option(..., "The seed: another one gives other results.", min=0)]
Shard = Annotated[str, option(..., "Which share to do: i/n is the i-th of n. Processes that are launched divide it.")]
Title = Annotated[str, option(..., "The title above the result.")]
Json = Annotated[bool, option(..., "Print the results as JSON, one object a line, and nothing else.", "--json")]

RerankBy = Annotated[
    str | None,
    option(
        ...,
        "The folder of the reward model of texts that chooses (training/reward_model.py makes one).",
        show_default="reward_model in the policy's folder",
    ),
]

METHODS = (
    "plain, enhanced, policy:NAME, suffix, suffix:FILE, random, random:METHOD, swapped:METHOD, best-of-N, rerank-N, "
    "search-N, file:PATH, template:FILE.yaml, with commas; a policy also with +constraints, and what rewrites with "
    "+gate."
)

# --- groups of options -------------------------------------------------------------------------------------------

_CLAUSE = 'A phrase of this kind that must be there; "a|b" is either.'
_OWN, _POLICYS = "the model's own", "the policy's own"


@dataclass(frozen=True)
class ConstraintOptions:
    """What the rewrites must and must not say."""

    PANEL: ClassVar = "Constraints"

    artist: str | None = option(None, _CLAUSE)
    style: str | None = option(None, _CLAUSE)
    format: str | None = option(None, _CLAUSE)
    perspective: str | None = option(None, _CLAUSE)
    booster: str | None = option(None, _CLAUSE)
    vibe: str | None = option(None, _CLAUSE)
    require: list[str] | None = option(None, 'A phrase that must be there; "a|b" is either. Repeatable.')
    forbid: list[str] | None = option(None, "A phrase that must not be there. Repeatable.")
    auto: list[str] | None = option(
        None,
        "A kind of which the policy picks a phrase itself. Repeatable.",
        autocompletion=lambda: list(CATEGORIES),
    )
    coherent: bool = option(
        True,
        "Leave out what does not go with the prompt, is said already, or is no word; or keep all that is written.",
        "--coherent/--no-coherent",
    )

    def read(self) -> "Constraints | None":
        """The wish; None where there is none."""
        from neuroprompt.decoding import Constraints

        given = {name: value for name, value in vars(self).items() if name != "coherent" and value is not None}
        return Constraints(**given) or None


@dataclass(frozen=True)
class GrowingOptions:
    """How a fixed suffix is searched."""

    PANEL: ClassVar = "Growing"

    budget: int = option(5120, "The pictures that the search may draw, all in all.", min=48, max=100_000_000)
    length: int = option(10, "The modifiers that the suffix has at most.", min=1, max=1000)
    coherent: bool = option(
        True,
        "Try only what goes with what is there, is not said already, and is made of words; or all.",
        "--coherent/--no-coherent",
    )


@dataclass(frozen=True)
class PromptOptions:
    """Plain prompts, on the command line or in a file."""

    PANEL: ClassVar = None

    prompts: list[str] | None = argument(None, "Plain prompts.")
    input: str | None = option(
        None,
        "A .txt, .csv or .jsonl file of plain prompts (column or key prompt, or else original); - for a pipe.",
        "-i",
    )

    def check(self) -> None:
        """Refuse none of the two, and both."""
        if bool(self.prompts) == bool(self.input):
            raise ValueError("give prompts, or a file with --input (- for a pipe): one of the two")

    def read(
        self, wish: "Constraints | None" = None, rows: int | None = None, window: WindowLike = CLIP_WINDOW
    ) -> list[str]:
        """All prompts, or the first so many; each can meet the wish inside the window."""
        from neuroprompt.completions import check_prompt
        from neuroprompt.prompt_files import read_lines

        self.check()
        if self.input is None:
            prompts = self.prompts[:rows]
        else:
            lines = read_lines(self.input)[:rows]
            if not lines:
                raise ValueError(f"{self.input} holds no prompts")
            if broken := next((line for line in lines if line.error), None):
                raise ValueError(f"{self.input}, line {broken.number}: {broken.error}")
            prompts = [line.prompt for line in lines]
        for prompt in prompts:
            check_prompt(prompt, wish, window)
        return prompts


@dataclass(frozen=True)
class DecodingOptions:
    """How a policy writes, by the names of `enhancer.Decoding`."""

    PANEL: ClassVar = "Decoding"

    num_return_sequences: int = option(
        1, "Variants of each prompt; more than one are sampled.", "--variants", "-n", min=1, max=1_000_000
    )
    seed: int = option(0, "The seed: another one gives other results.")
    do_sample: bool | None = option(
        None, "Sample, or search with beams.", "--sample/--search", show_default="the policy's way"
    )
    num_beams: int | None = option(
        None, "The width of the beam search.", min=1, max=10_000, show_default="5, or the policy's own"
    )
    diversity: float | None = option(
        None, "The noise of the search; 0 is plain beam search.", min=0, max=10, show_default=_POLICYS
    )
    temperature: float | None = option(None, "The temperature of sampling.", min=0.001, max=1000, show_default=_POLICYS)
    top_k: int | None = option(
        None,
        "The likeliest tokens that are sampled from; 0 is all.",
        min=0,
        show_default="100, or the policy's own",
    )
    top_p: float | None = option(
        None,
        "The share of the likeliest tokens that are sampled from; 1 is all.",
        min=0,
        max=1,
        show_default="1, or the policy's own",
    )
    min_modifiers: int = option(4, "The modifiers that the policy must at least add.", min=0, max=1_000_000)
    usual: bool | None = option(
        None,
        "Leave out what people seldom write behind such prompts, and what says nothing new, too.",
        "--usual/--no-usual",
        show_default=_POLICYS,
    )
    window: int | None = option(
        None,
        "The CLIP tokens that a result may have, begin and end included.",
        min=3,
        max=1_000_000,
        show_default="77, or what the generator reads",
    )
    batch_size: int = option(160, "The sequences that are decoded at once.", min=1)

    def settings(self) -> dict[str, Any]:
        """Those of `enhancer.Decoding` that were given, or are not the policy's to say."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def prompts_at_once(self, sampled: bool, constrained: bool) -> int:
        """The prompts of a batch: a sample is one sequence, a search and a sample under constraints one a beam."""
        beams = 1 if sampled and not constrained else self.num_beams or 5
        return max(1, self.batch_size // (beams * (self.num_return_sequences if sampled else 1)))

    def without_effect(self, sampled: bool) -> list[str]:
        """The options that were given and say something about the other way to decode."""
        other = ("diversity",) if sampled else ("temperature", "top_k", "top_p")
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return [f"--{name.replace('_', '-')}" for name in given if name in other]


@dataclass(frozen=True)
class AskingOptions:
    """How a policy is asked, for which generator, and what it keeps."""

    PANEL: ClassVar = "Retelling"

    family: str | None = option(
        None,
        f"The family of generators that will read the results: their window, and tags or prose. {', '.join(FAMILIES)}.",
        "--for",
        autocompletion=lambda: list(FAMILIES),
    )
    instruction: str | None = option(
        None,
        "A text file: what a chat model is told, in the place of our words; or, where it says {prompt}, what any model "
        "reads.",
    )
    keep: list[str] | None = option(
        None, "A phrase of the prompt that stays to the letter, such as a trigger word. Repeatable."
    )
    keep_words: bool = option(
        True,
        "A policy that retells keeps every content word of the prompt, in that form or an inflection of it; or writes "
        "freely.",
        "--keep-words/--free",
    )

    def check(self) -> None:
        """What is wrong with the options, without a model."""
        if self.family:
            find_family(self.family)
        self._instruction()

    def reader(self, generator: str | None) -> "families.Family | None":
        """The family of generators that will read the results: that which the user says, or that of what draws them."""
        if self.family:
            return find_family(self.family)
        return family_of(generator) if generator else None

    def ask(self, enhancer: "PromptEnhancer", reader: "families.Family | None") -> "PromptEnhancer":
        """The policy, asked in this way."""
        return enhancer.asked(self._instruction(), reader)

    def settings(self) -> dict[str, Any]:
        """Those of `enhancer.Decoding`."""
        return {"keep": tuple(self.keep or ()), "keep_words": self.keep_words}

    def _instruction(self) -> str | None:
        if self.instruction is None:
            return None
        try:
            text = Path(self.instruction).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ValueError(f"cannot read the instruction {self.instruction}: {why}") from error
        if not text:
            raise ValueError(f"the instruction {self.instruction} is empty")
        return text


@dataclass(frozen=True)
class DrawingOptions:
    """How a generator draws, by the names of `GeneratorConfig`."""

    PANEL: ClassVar = "Drawing"

    steps: int | None = option(None, "The denoising steps.", min=1, max=1000, show_default=_OWN)
    guidance: float | None = option(None, "The scale of the guidance.", show_default=_OWN)
    size: str | None = option(None, "The size in pixels: 512, or 768x512 (width x height).", show_default=_OWN)
    negative: str | None = option(None, "The negative prompt.", show_default=_OWN)
    dtype: str | None = option(None, "The weights: float32, bfloat16, float16 or auto.", show_default=_OWN)
    settings: list[str] | None = option(
        None,
        "Any other setting of the generator, as name=value: scheduler=DPMSolverMultistepScheduler, cpu_offload=model, "
        "batch_size=4 …; of a URL workflow=FILE, model=NAME, api_key=env:NAME … Repeatable.",
        "--set",
    )

    def others(self) -> dict[str, str]:
        """What was given by ``--set name=value``."""
        settings: dict[str, str] = {}
        for text in self.settings or ():
            name, equals, value = text.partition("=")
            name = name.strip()
            if not name or not equals:
                raise ValueError(f"--set {text!r}: write name=value, such as scheduler=DPMSolverMultistepScheduler")
            if name in settings:
                raise ValueError(f"--set gives {name} twice")
            settings[name] = value
        return settings

    def check(self, *generators: str) -> None:
        """What is wrong with the settings, a generator's name or folder, the hub, or what is installed."""
        from neuroprompt.images import read_urls

        for name in generators:
            self._config(name)
            if not read_urls(name):
                need("images")
                find(name, "stable-diffusion")

    def load(self, generator: str, device: str | None, *, seeds: str | None = None) -> "ImageGenerator":
        """The generator; `seeds` is that of `RemoteConfig` where the user has not said it."""
        from neuroprompt.images import ImageGenerator, read_urls

        settings = {"seeds": seeds} if seeds and read_urls(generator) else {}
        return ImageGenerator.from_pretrained(generator, device=device, config=self._config(generator, **settings))

    def _config(self, generator: str, **settings: Any) -> "GeneratorConfig":
        from neuroprompt.images import config_of, read_setting

        settings |= {name: value for name, value in vars(self).items() if name != "settings"}
        return config_of(
            generator, **settings | {name: read_setting(name, text) for name, text in self.others().items()}
        )


@dataclass(frozen=True)
class RewardOptions:
    """What judges pictures."""

    PANEL: ClassVar = "Rewards"

    rewards: str = option(
        "pickscore:1,aesthetic:0,clip:0",
        "The rewards: pickscore, clip, aesthetic, hps, image_reward, vqa, echo, atoms, length, artefacts, "
        "http://HOST:PORT/NAME, or FILE.py:FUNCTION, with commas; each as NAME[MODEL]:WEIGHT@CAP, where a weight of 0 "
        "only measures, and the cap plain is what the plain prompt scores.",
    )
    reward_model: str | None = option(
        None,
        "Where the rewards' models come from: embedded, or published.",
        show_default="embedded with the embedded generator",
    )
    atoms: str | None = option(
        None,
        "A question file (.json, or a benchmark's .csv or .jsonl) for the reward atoms, which is then measured where "
        "it is not named; by default the prompt set's own, or rules ask.",
    )

    def source(self, generators: Iterable[str]) -> str:
        """Where the models come from, for pictures that these generators draw."""
        return self.reward_model or ("embedded" if set(generators) == {"embedded"} else "published")

    @property
    def takes_source(self) -> bool:
        """Whether any reward's model is that of `source`, since none is named."""
        from neuroprompt.rewards import parse_spec

        named = all(part.model or ":" in part.name for part in parse_spec(self.rewards))
        return not named or bool(self.atoms and not self.asks)

    @property
    def asks(self) -> bool:
        """Whether the reward atoms is named, to be asked here."""
        from neuroprompt.rewards import is_url, parse_spec

        return any(part.name == "atoms" and not is_url(part.model) for part in parse_spec(self.rewards))

    def check(self, prompts: Sequence[str] = ()) -> None:
        """What is wrong with the rewards' names, weights and files, and with the questions about these prompts."""
        from neuroprompt.questions import read_questions
        from neuroprompt.rewards import parse_spec

        parse_spec(self.rewards)
        if self.atoms:
            known = read_questions(self.atoms)
            missing = [prompt for prompt in prompts if prompt.strip() not in known]
            if prompts and len(missing) == len(prompts):
                raise ValueError(f"{self.atoms} has no questions about {prompts[0][:60]!r}, nor any other prompt here")
            if missing:
                say(f"rules ask about {counted(len(missing), 'prompt')} that {self.atoms} has not", "note:", "yellow")

    def load(self, generators: Iterable[str], device: str | None) -> "RewardSet":
        from neuroprompt.rewards import load_rewards

        rewards = self.rewards if self.asks or not self.atoms else f"{self.rewards},atoms:0"
        return load_rewards(rewards, self.source(generators), device, atoms=self.atoms)


@dataclass(frozen=True)
class GateOptions:
    """Whether pictures decide if a rewrite comes back: see `neuroprompt.gate`."""

    PANEL: ClassVar = "If better"

    if_better: int | None = option(
        None,
        "Give a rewrite back only where its pictures gain, beyond chance, and no judge loses; else the prompt itself. "
        "Both are drawn with the same seeds, so many pictures each at most: 4, 6 or 8.",
    )
    judge: str | None = option(
        None,
        "The rewards that must not lose where the others gain, with commas; or none.",
        show_default="clip, if it is among --rewards and does not count",
    )

    def check(self, rewards: RewardOptions, gates: bool | None = None) -> RewardOptions:
        """The rewards, with the judges among them; what is wrong with either comes out now.

        `gates` says whether something asks for the gate, where that is not the option's to say.
        """
        if not (self.if_better is not None if gates is None else gates):
            if self.judge or self.if_better is not None:
                raise ValueError(
                    "--judge is for --if-better: add it" if gates is None else "no method has +gate, to be judged"
                )
            return rewards
        from neuroprompt.gate import check_pictures  # and torch with it
        from neuroprompt.rewards import parse_spec

        check_pictures(self.pictures)
        known = {part[:2] for part in parse_spec(rewards.rewards)}
        more = [f"{part.name}{f'[{part.model}]' * bool(part.model)}:0" for part in self._parts if part[:2] not in known]
        return replace(rewards, rewards=",".join([rewards.rewards, *more]))

    @property
    def pictures(self) -> int:
        from neuroprompt.gate import PICTURES

        return PICTURES if self.if_better is None else self.if_better

    def load(self, reward: "PromptReward", rewards: RewardOptions, **settings: Any) -> "Gate":
        """The gate on a reward that `rewards`, of `check`, have loaded; `settings` are others of `Gate`."""
        from neuroprompt.gate import Gate
        from neuroprompt.rewards import parse_spec

        places = {part[:2]: place for place, part in enumerate(parse_spec(rewards.rewards))}
        named = [reward.rewards.components[places[part[:2]]].reward.name for part in self._parts]
        gate = Gate(reward, named if self.judge else None, self.pictures, **settings)
        if not gate.judges and self.judge != "none":
            say(f"{' and '.join(gate.counted)} alone decides: nothing else is measured (--judge)", "note:", "yellow")
        return gate

    @property
    def _parts(self) -> "list[SpecPart]":
        from neuroprompt.rewards import parse_spec

        return parse_spec(self.judge) if self.judge not in (None, "none") else []


# --- what is read of them ----------------------------------------------------------------------------------------


def find(name: str, kind: str) -> None:
    """What is wrong with a model's name or folder, or with the hub, without loading it."""
    if name != TUNED:  # which has to be put together first
        locate(name, kind)


def reads(generator: "str | ImageGenerator", family: str | None) -> "tuple[families.Family | None, Window]":
    """Who reads the prompts, and what they must fit: a generator of the family that the user says, or this one.

    Of one that is loaded the window is its own. For a name that says nothing, anything fits; and for a generator of
    which nothing is known, what CLIP reads.

    Raises:
        ValueError: There is no such family.
    """
    known = find_family(family) if family else family_of(generator)
    if isinstance(generator, str):
        return known, known.window if known else Window.of(None)
    if known in (None, generator.family):
        return known, generator.window or Window()
    return known, known.window


def load_policy(model: str, device: str | None, backend: str | None = None) -> "PromptEnhancer":
    from neuroprompt.enhancer import PromptEnhancer

    return PromptEnhancer.from_pretrained(model, device=device, backend=backend)


def check_file(path: str, suffixes: tuple[str, ...]) -> None:
    """Whether a file can be written there, before hours are spent on what it is to hold."""
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{path}: this is written to {', '.join(suffixes)} files")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"there is no folder {Path(path).parent}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: nothing can be written to this folder")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: give a file in it")


def check_folder(path: str) -> None:
    """Whether files can be written to this folder, which may have to be made."""
    there = next(p for p in (Path(path).absolute(), *Path(path).absolute().parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f"{path}: this is written to a folder, and {there} is a file")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{path}: nothing can be written to {there}")


# --- processes ---------------------------------------------------------------------------------------------------


def read_shard(shard: str) -> tuple[int, int]:
    """(i, n) of "i/n"; the processes that `accelerate launch` or `torchrun` started divide it among themselves.

    No process waits for another, so no process group is made.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"there is no shard {shard!r}: write 2/4 for the second of four")
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    return (int(match[1]) - 1) * processes + rank + 1, int(match[2]) * processes


def own_device(device: str | None) -> str | None:
    """The device that was asked for; of an accelerator without a number, each process on this machine has its own."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if "LOCAL_RANK" not in os.environ or accelerator is None or device not in (None, accelerator.type):
        return device
    return f"{accelerator.type}:{int(os.environ['LOCAL_RANK']) % torch.accelerator.device_count()}"

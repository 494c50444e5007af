"""How a policy is asked, and how its answer is read.

A policy that *continues* reads a plain prompt and writes what follows it, as those that ship do. One that *replaces* is
asked for another prompt, by a template ("{prompt} Rephrase:") or as a chat model, and its whole answer is the new one.
Rewriting, training, search and evaluation all ask and read by a `PromptFormat`, so that what a policy was trained on is
what it is asked; it lies beside the policy's weights in `prompt_format.json`. No model is touched here.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from neuroprompt.coherence import MEDIA, controls
from neuroprompt.files import read_mapping, write_file
from neuroprompt.models import ModelError, reason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "prompt_format.json"
"""What a policy's folder calls its format."""

OUTPUTS = ("replace", "continue")
DIALECTS = ("tags", "prose")

CONTROLS = {family: f"<|{family or 'any'}|>" for family in ("", *MEDIA)}
"""The special token that tells a policy the family of a prompt's medium, where its tokenizer has such tokens; the one
of "" leaves the medium to the policy."""


class Answer(NamedTuple):
    """What a policy wrote, read as a prompt.

    Attributes:
        text: The new prompt; "" where there is none.
        problem: Why it is none, or not a whole one: empty, cut off, still in its thinking.
    """

    text: str
    problem: str | None = None


@dataclass(frozen=True)
class PromptFormat:
    """How a policy is asked and how its answer is read.

    Attributes:
        template: What it reads; ``{prompt}`` stands for the plain prompt.
        chat: Ask through the tokenizer's chat template, `template` being the user's message.
        instruction: The system's message; only with `chat`. Where the template has no place for one, it stands before
            the user's message.
        output: What its text is: ``replace``, the new prompt; or ``continue``, what follows the plain prompt.
        stop: Texts that end the new prompt; they and what follows are cut off.
        thinking: Tokens that a model that thinks (``<think>…</think>``) may think before it answers; with 0 it is asked
            not to. No part of its thinking is part of the answer.
        dialect: What its prompts are: ``tags``, phrases with commas between them; or ``prose``.
        before_artists: What stands before an artist's name in its prose, and is written only where the user asks for an
            artist. (A model that has learnt from people's prompts names one unasked.)
    """

    template: str = "{prompt}"
    chat: bool = False
    instruction: str | None = None
    output: str = "replace"
    stop: tuple[str, ...] = ()
    thinking: int = 0
    dialect: str = "tags"
    before_artists: tuple[str, ...] = ()

    def __post_init__(self):
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        if self.template.count("{prompt}") != 1:
            raise ValueError(f"template is {self.template!r}: it must hold {{prompt}} once")
        for name, choices in (("output", OUTPUTS), ("dialect", DIALECTS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}: it can be {' or '.join(choices)}")
        if self.instruction is not None and not self.chat:
            raise ValueError("instruction is for chat models: set chat to true, or write it into the template")
        if self.thinking < 0:
            raise ValueError(f"thinking is {self.thinking}: it must be at least 0")
        if self.chat and self.output == "continue":
            raise ValueError("output is 'continue', and a chat model answers with a prompt of its own: take 'replace'")

    @classmethod
    def read_settings(cls, given: "Mapping[str, Any] | str | None") -> "PromptFormat | None":
        """The format that a training's settings name: ``continue``, ``retell``, a .yaml or .json file, or its keys;
        None where they say nothing.

        Raises:
            ValueError: There is no such format.
        """
        if given is None or (isinstance(given, str) and given in NAMED):
            return NAMED[given] if given else None
        if isinstance(given, str):
            return cls.from_file(given)
        known = [f.name for f in fields(PromptFormat)]
        if unknown := [key for key in given if key not in known]:
            raise ValueError(f"a format has no key {unknown[0]!r}: choose from {', '.join(known)}")
        return PromptFormat(**given)

    @classmethod
    def from_file(cls, path: str | Path) -> "PromptFormat":
        """Read a YAML or JSON file; of a policy's YAML file, its format.

        Raises:
            ValueError: It cannot be read, or a key or a value is not one of those above.
        """
        values = read_mapping(path)
        known = [f.name for f in sorted(fields(cls), key=lambda f: not f.kw_only)]
        if "model" in known and "model" not in values:
            raise ValueError(f"{path} names no model: it holds the keys of a policy, such as model and template")
        if unknown := [key for key in values if key not in known]:
            raise ValueError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(known)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, folder: str | Path) -> None:
        """Write it beside a policy's weights."""
        values = {f.name: getattr(self, f.name) for f in fields(PromptFormat)}
        write_file(Path(folder, FILE), (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())

    @property
    def replaces(self) -> bool:
        """Whether the policy's text is the new prompt, and not what follows the plain one."""
        return self.output == "replace"

    # -- asking

    def check(self, tokenizer: "PreTrainedTokenizerBase", what: str) -> None:
        """Refuse a tokenizer by which the policy `what` cannot be asked.

        Raises:
            ModelError: It has no chat template where there must be one, or one that fails or leaves the prompt out.
        """
        if self.chat and not tokenizer.chat_template:
            raise ModelError(f"{what} has no chat template: leave chat out, and write the template by hand")
        if self.chat:
            self.ask(tokenizer, "a fox", what)

    def ask(self, tokenizer: "PreTrainedTokenizerBase", prompt: str, what: str = "the policy") -> str:
        """What the policy reads of a prompt, but for the special tokens that the tokenizer puts before every text.

        A chat template writes special tokens itself; those that the prompt spells are left out of it.

        Raises:
            ModelError: The chat template fails, or leaves the prompt out.
        """
        if not self.chat:
            return control_tokens(tokenizer)[controls(prompt)] + self.template.replace("{prompt}", prompt)
        for token in tokenizer.added_tokens_encoder:
            prompt = prompt.replace(token, " ")
        message = self.template.replace("{prompt}", prompt)
        try:
            asked = self._chat(tokenizer, message, self.instruction)
        except Exception as error:  # of templates that know no system
            try:
                asked = self._chat(tokenizer, f"{self.instruction}\n\n{message}" if self.instruction else message)
            except Exception:
                raise ModelError(f"the chat template of {what} fails: {reason(error)}") from error
        if prompt.strip() not in asked:
            raise ModelError(f"the chat template of {what} leaves the prompt out")
        if _THINKS.search(asked) and not self.thinking:
            asked += "\n\n</think>\n\n"  # it must think before it answers: it has
        return asked

    def encode(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        prompts: Sequence[str],
        longest: Iterable[int] | None = None,
        about: Sequence[str] | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[list[int]]:
        """Token ids of what a policy reads: what a training pair of that prompt begins with.

        That is the text after what the tokenizer puts before every text (BOS for Llama and Gemma, nothing for GPT-2),
        and without what it puts behind one (EOS for some), since the policy goes on from here. Where the tokenizer has
        `CONTROLS`, the one of the medium that the prompt names stands before the text.

        Args:
            prompts: Without the separators that the policy is to write.
            longest: Tokens that may be read of each, where it is continued; of what is longer the end is, after what
                stands before every text.
            about: Texts that say more of the medium than the prompts do, such as these with what is required besides.
            begun: The beginning of each answer, from which the policy goes on.
        """
        if not prompts:
            return []
        start = [] if self.chat else text_start(tokenizer)
        if self.replaces:
            asked = [self.ask(tokenizer, prompt) for prompt in prompts]
            if begun is not None:
                asked = [text + answer for text, answer in zip(asked, begun, strict=True)]
            read = tokenizer(asked, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            return [start + ids for ids in read]
        told = control_tokens(tokenizer)
        before, after = self.template.split("{prompt}")
        texts = [
            told[controls(text)] + before + prompt + after
            for prompt, text in zip(prompts, about or prompts, strict=True)
        ]
        read = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        if longest is None:
            return [start + ids for ids in read]
        first = int(bool(told[""]))  # tokens of a text that are its control
        return [
            start + ids[:first] + ids[first:][-max(1, most - len(start) - first) :]
            for ids, most in zip(read, longest, strict=True)
        ]

    def _chat(self, tokenizer: "PreTrainedTokenizerBase", message: str, instruction: str | None = None) -> str:
        system = [{"role": "system", "content": instruction}] * bool(instruction)
        return tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": message}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=bool(self.thinking),  # what Qwen's templates call it; others do not read it
        )

    def instructed(self, instruction: str, tokenizer: "PreTrainedTokenizerBase", what: str) -> "PromptFormat":
        """The format with a user's own instruction: of a chat model it is the system's message, or, where it says
        ``{prompt}``, the user's; any other model reads it with the prompt in it.

        Raises:
            ModelError: `what` is no chat model, and the instruction does not say where the prompt stands.
            ValueError: The instruction says nothing, or ``{prompt}`` twice.
        """
        if not (instruction := instruction.strip()):
            raise ValueError("the instruction is empty")
        chat, placed = bool(tokenizer.chat_template), "{prompt}" in instruction
        if not chat and not placed:
            raise ModelError(f"{what} is no chat model: write {{prompt}} into the instruction where the prompt stands")
        told = {"template": instruction, "instruction": None} if placed else {"instruction": instruction}
        stop = self.stop if self.replaces else RETELL.stop
        dialect = self.dialect if self.replaces else RETELL.dialect
        return replace(self, **told, chat=chat, output="replace", stop=stop, dialect=dialect)

    # -- reading

    def read(self, prompt: str, written: str, ended: bool = True) -> Answer:
        """The prompt in what a policy wrote: without its thinking, a preamble, quotes and code fences around it.

        Args:
            prompt: The plain prompt.
            written: What the policy wrote, without special tokens.
            ended: Whether it ended by itself. Of an answer that did not, the last sentence is left out, which may be
                half a one; of a single sentence its last clause, and of tags the last one.
        """
        written, thinking = _without_thinking(written)
        if thinking:
            return Answer("", "it was still thinking")
        if not self.replaces:
            written = _until(written.lstrip("\n"), self.stop)
            return Answer(prompt + written.rstrip()) if written.strip() else Answer("", "it wrote nothing")
        stopped = _until(written.strip(), self.stop)
        cut = not ended and stopped == written.strip()
        text = _bare(stopped)
        if not cut:
            return Answer(text) if text else Answer("", "it wrote nothing")
        if self.prose and (ends := [m.end() for m in _SENTENCE_END.finditer(text)]):
            return Answer(text[: ends[-1]], "it was cut off")
        ends = [m.start() for m in (_CLAUSE_END if self.prose else _TAG_END).finditer(text)]
        return Answer(text[: ends[-1]].rstrip() + "." * self.prose if ends else "", "it was cut off")

    @property
    def prose(self) -> bool:
        return self.dialect == "prose"


def format_of(folder: Path | None, tokenizer: "PreTrainedTokenizerBase") -> PromptFormat:
    """The format of a policy: the one that lies beside it in `folder`; else chat models retell, and others continue.

    Raises:
        ModelError: The file cannot be read.
    """
    if folder is not None and Path(folder, FILE).is_file():
        try:
            return PromptFormat.from_file(Path(folder, FILE))
        except ValueError as error:
            raise ModelError(f"the policy's format cannot be read: {error}") from error
    return RETELL if tokenizer.chat_template else CONTINUE


# --- tokenizers --------------------------------------------------------------------------------------------------


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> Mapping[str, str]:
    """What tells the tokenizer's policy each family of `CONTROLS`; "" for every one where it has no such tokens."""
    known = tokenizer.added_tokens_encoder
    anything = CONTROLS[""] if CONTROLS[""] in known else ""
    return {family: token if token in known else anything for family, token in CONTROLS.items()}


def text_start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that the tokenizer puts before every text."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return whole[: whole.index(bare[0])]


# --- details -----------------------------------------------------------------------------------------------------

_THINKS = re.compile(r"<think>\s*\Z")
_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)
# "Here is the rewritten prompt:", "Sure! Prompt:", "**Enhanced prompt**:"; one that ends in a colon, on whatever line.
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|ok|absolutely|here(?:'s| is| are| you go))\b[^:\n]{0,120}[:!]\s*"
    r"|[*_#\s]*(?:(?:the |your |a )?(?:rewritten|enhanced|improved|expanded|revised|new|final|image|output)\s+)*"
    r"(?:prompt|description|version|answer)[*_]*\s*:[*_]*\s*)+",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A```[a-z]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "«": "»", "「": "」"}
_SENTENCE_END = re.compile(r"[.!?。！？](?=[\"”'’)]*(?:\s|\Z))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CLAUSE_END = re.compile(r"[,;:](?=\s)")
_TAG_END = re.compile(r"[,;|、]")


def _until(text: str, stops: Iterable[str]) -> str:
    for stop in stops:
        text = text.partition(stop)[0]
    return text


def _without_thinking(written: str) -> tuple[str, bool]:
    """The answer behind the thinking, and whether it is still thinking."""
    answer = _THOUGHT.sub("", written)
    return answer, "<think>" in answer


def _bare(text: str) -> str:
    """Without what chat models put around a prompt, and with single blanks."""
    text = _PREAMBLE.sub("", _FENCE.sub(r"\1", text.strip()).strip()).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return " ".join(_CONTROL.sub(" ", text).split())


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value as its type wants it: whole numbers pass for floats, and a string or a list for a tuple of strings."""
    if kind == tuple[str, ...]:
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value):
            return tuple(value)
    else:
        kinds = get_args(kind) or (kind,)
        if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
            return float(value)
        if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
            return value
    raise ValueError(f"{name} is {value!r}: that is no {getattr(kind, '__name__', None) or kind}")


# --- formats that have a name ------------------------------------------------------------------------------------


def retelling(dialect: str = "prose", instruction: str | None = None) -> PromptFormat:
    """The format of a chat model that says nothing else: it is asked to tell the prompt again, in full.

    Args:
        dialect: What the generator wants to read (see `DIALECTS`).
        instruction: In the place of the one for this dialect.
    """
    return PromptFormat(chat=True, instruction=instruction or _INSTRUCTIONS[dialect], stop=("\n",), dialect=dialect)


_INSTRUCTIONS = {
    "prose": "Rewrite the user's prompt for an image generator as one vivid paragraph of one to three sentences. Keep "
    "everything that it asks for, in its words, and say what is seen: setting, light, colours, materials, composition "
    "and mood. Answer with the prompt alone.",
    "tags": "Rewrite the user's prompt for an image generator as phrases with commas between them. Keep everything "
    "that it asks for, in its words, and add details of medium, style, light, composition and quality. Answer with the "
    "prompt alone.",
}
CONTINUE = PromptFormat(output="continue")
"""The plain prompt is read as it is, and continued."""
RETELL = retelling()
NAMED = {"continue": CONTINUE, "retell": RETELL}

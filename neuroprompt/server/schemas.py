"""What the native routes take and give. No other field is accepted, and none is a path or an address."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from neuroprompt.families import FAMILIES
from neuroprompt.modifiers import CATEGORIES
from neuroprompt.statistics import SequentialTest

Text = Annotated[str, StringConstraints(min_length=1)]
AnyText = Annotated[str, StringConstraints(min_length=0)]  # `str` alone takes half a character, which JSON can spell
Clause = Text | list[Text]
Phrase = Annotated[Clause | None, Field(description='A phrase of this kind; "a|b", or a list, is either.')]
Category = Literal[CATEGORIES]
Family = Literal[tuple(FAMILIES)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
IfBetter = Annotated[
    int,
    Field(
        ge=0,
        le=SequentialTest.MOST,
        description="The pictures, of the prompt and of its rewrite each, at most, that decide whether the rewrite "
        "comes back or the prompt itself, and why: 4, 6, 8 …; 0 takes the rewrite as it is.",
    ),
]


class Strict(BaseModel):
    """A request: what it does not know, or is of another type, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Wish(Strict):
    """The fields of `neuroprompt.Constraints`."""

    artist: Phrase = None
    style: Phrase = None
    format: Phrase = None
    perspective: Phrase = None
    booster: Phrase = None
    vibe: Phrase = None
    require: list[Clause] = Field([], description="Each of these must be there.")
    forbid: list[Text] = Field([], description="None of these may be there.")
    auto: list[Category] = Field([], description="Kinds of which the policy picks a phrase itself.")


class Asking(Strict):
    """The fields of `work.Asking`."""

    model: Text | None = Field(None, description="A policy of this server, as `GET /info` names them; else the first.")
    family: Family | None = Field(
        None, alias="for", description="The generators that are to read it: how much of it, and tags or prose."
    )
    instruction: Text | None = Field(
        None, description="What a chat model is told; or, with {prompt} in it, what any model reads."
    )


class Keeping(Strict):
    """What a policy that retells keeps of the prompt."""

    keep: list[Text] = Field([], description="Phrases of the prompt that stay to the letter.")
    keep_words: bool = Field(True, description="Every content word stays, in that form or an inflection of it.")


class Rewriter(Asking, Keeping):
    """Who rewrites a prompt that is to be drawn, and how."""


class DecodingSettings(Keeping):
    """The fields of `neuroprompt.enhancer.Decoding`, but for `batch_size`, which is the operator's."""

    num_return_sequences: int = Field(1, ge=1, description="Variants of each prompt; more than one are sampled.")
    do_sample: bool | None = Field(None, description="Sample, or search with beams; by default the policy's way.")
    seed: Seed = 0
    num_beams: int = Field(5, ge=1)
    diversity: float | None = Field(None, ge=0, le=10, description="The noise of the search; 0 is plain beam search.")
    length_penalty: float = Field(1.0, ge=-10, le=10)
    temperature: float | None = Field(None, ge=0.001, le=1000)
    top_k: int = Field(100, ge=0, lt=2**31, description="0 is all.")
    top_p: float = Field(1.0, ge=1e-9, le=1)
    max_new_tokens: int | None = Field(None, ge=1, le=512)
    min_modifiers: int = Field(4, ge=0, le=64)
    window: int = Field(77, ge=3, le=302, description="CLIP tokens that a result may have; 302 are four chunks of 75.")
    negative: Text | None = Field(None, description="What the picture must not show, beside what is forbidden.")
    coherent: bool = Field(True, description="Leave out what a person would not sign.")
    usual: bool | None = Field(
        None, description="And what is seldom written there, or says nothing new; by default the policy's way."
    )
    output_scores: bool = True


class EnhanceRequest(Wish, DecodingSettings, Asking):
    """Prompts to rewrite, what the rewrites must and must not say, and how they are decoded."""

    prompts: Text | Annotated[list[Text], Field(min_length=1)]
    seeds: list[Seed] | None = Field(None, description="One for each prompt, in the place of `seed`.")
    if_better: IfBetter = 0


class EnhanceAnswer(BaseModel):
    """The variants of each prompt, in order."""

    results: list[list[dict[str, Any]]] = Field(
        description="Each is `EnhancedPrompt.to_dict()`; and `kept`, of a policy that retells: [start, end] of each "
        "part of `text` that is the prompt's, or null; and, where it was asked for, `if_better`, the verdict."
    )


class Drawing(BaseModel):
    """A prompt, and how it is drawn; what is not said is the operator's, or the model's own."""

    prompt: Text
    size: str | None = Field(None, pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$", description="512x512, or auto.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Of the first picture; the others' follow.")
    negative_prompt: AnyText | None = None
    steps: int | None = Field(None, ge=1, le=150)
    guidance: float | None = Field(None, ge=0, le=100)
    constraints: Wish | None = Field(None, description="What the rewrite must and must not say.")
    rewriter: Rewriter | None = Field(None, description="Who rewrites it, for which generators, and what is kept.")

    @property
    def settings(self) -> dict[str, Any]:
        """Of `GeneratorConfig`."""
        return {
            "size": tuple(map(int, self.size.split("x"))) if self.size not in (None, "auto") else None,
            "steps": self.steps,
            "guidance": self.guidance,
            "negative": self.negative_prompt or None,
        }

    @property
    def rewriting(self) -> dict[str, Any]:
        """Of `pictures.Order`: wish, decoding and asking."""
        decoding, asking = (
            self.rewriter.model_dump(include=set(part.model_fields)) if self.rewriter else {}
            for part in (Keeping, Asking)
        )
        wish = self.constraints.model_dump() if self.constraints else {}
        return {"wish": wish, "decoding": decoding, "asking": asking}


class ScoreRequest(Strict):
    """Pictures to judge by what was wished for."""

    prompt: Text
    pictures: list[Text] = Field(min_length=1, description="PNG, JPEG or WebP files in base64.")
    texts: list[Text] | None = Field(
        None, description="What each was drawn of, for rewards that read it (`length`); by default the prompt."
    )


class Verdict(BaseModel):
    """What pictures said of a rewrite."""

    accepted: bool
    reason: str = Field(description="One line.")
    gains: dict[str, dict[str, float | None]] = Field(
        description="Of each reward, and of what they come to together (`reward`): `mean` and standard `error` of the "
        "rewrite's pictures over the prompt's."
    )
    pictures: int = Field(description="How many were drawn of each of the two.")


class Atom(BaseModel):
    """A question about a picture."""

    question: str
    answer: str = Field(description="The one that is wanted.")
    score: float = Field(description="Its probability; 0 where a question that this one hangs on went wrong.")


class ScoreAnswer(BaseModel):
    """What each reward makes of each picture, in order."""

    results: list[dict[str, float]]
    answers: list[dict[str, list[Atom]]] = Field(description="Of each reward that asks questions, such as `atoms`.")


class ModifierEntry(BaseModel):
    """A term, and how many of DiffusionDB's prompts hold it."""

    category: str
    modifier: str
    prompts: int


class ModifiersAnswer(BaseModel):
    """Those to suggest first come first."""

    modifiers: list[ModifierEntry]


class ErrorDetail(BaseModel):
    message: str
    type: str
    code: str


class ErrorAnswer(BaseModel):
    """What every error of these routes looks like."""

    error: ErrorDetail

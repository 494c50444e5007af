"""What the native routes take and give. No other field is accepted, and none is a path or an address."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]
Phrase = Annotated[str, StringConstraints(min_length=1)]
Clause = Phrase | list[Phrase]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ConstraintFields(Strict):
    """The fields of `neuroprompt.Constraints`."""

    artist: Clause | None = Field(None, description='"a|b", or a list, is either.')
    style: Clause | None = None
    format: Clause | None = None
    perspective: Clause | None = None
    booster: Clause | None = None
    vibe: Clause | None = None
    require: list[Clause] = Field([], description="Each of these must be there.")
    forbid: list[Phrase] = Field([], description="None of these may be there.")
    auto: list[str] = Field([], description="Categories from which the policy picks a phrase itself.")


class DecodingFields(Strict):
    """The fields of `neuroprompt.enhancer.Decoding`, but for those that are the operator's."""

    num_return_sequences: int = Field(1, ge=1, description="Variants of each prompt.")
    do_sample: bool | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    num_beams: int = Field(5, ge=1)
    diversity: float | None = Field(None, ge=0, le=10)
    length_penalty: float = Field(1.0, ge=-10, le=10)
    temperature: float | None = Field(None, ge=0.001, le=1000)
    top_k: int = Field(100, ge=0)
    top_p: float = Field(1.0, ge=1e-9, le=1)
    max_new_tokens: int | None = Field(None, ge=1, le=10_000)
    min_modifiers: int = Field(4, ge=0, le=1000)
    window: int = Field(77, ge=3, le=10_000)
    coherent: bool = True
    output_scores: bool = True


class EnhanceRequest(ConstraintFields, DecodingFields):
    """Prompts to rewrite, what the rewrites must and must not say, and how they are decoded."""

    prompts: Text | list[Text]


class EnhanceAnswer(BaseModel):
    """The variants of each prompt, in order, each as `EnhancedPrompt.to_dict()`."""

    results: list[list[dict[str, Any]]]

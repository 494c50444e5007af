"""What judges pictures, as a part of `Workers`: files for a prompt by all rewards, rewrites by what their pictures
scored, and batches of tensors by one reward."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from neuroprompt.completions import check_prompt
from neuroprompt.server.errors import Problem, refusal, refuse_excess
from neuroprompt.server.generators import Describe
from neuroprompt.server.settings import RewardServerSettings, ServeSettings

if TYPE_CHECKING:
    from neuroprompt.gate import Gate
    from neuroprompt.rewards import RewardSet


@dataclass(frozen=True)
class Judging:
    """A picture to be judged for a prompt.

    Attributes:
        picture: A file, as bytes.
        text: What was drawn, for rewards that read it; None is the prompt.

    Answer:
        `Judged`.
    """

    prompt: str
    picture: bytes
    text: str | None = None
    group: Hashable = None
    size: int = 1


class Judged(NamedTuple):
    """What is said of a picture.

    Attributes:
        scores: Of each reward.
        answers: By the name of each reward that asks questions, ``question``, wanted ``answer`` and soft ``score`` of
            each.
    """

    scores: dict[str, float]
    answers: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Weighing:
    """A rewrite on trial (`gate.Trial`), and what its pictures scored so far.

    Attributes:
        made: The variant, as `rewriting.rewrite` gives it.
        wish: Fields of `Constraints` that it was made for.
        pictures: How many may be drawn of each of the two, with the same negative prompt.
        scores, flagged: Of each pair so far: the rewrite's, and the plain prompt's.

    Answer:
        list[int]: The seeds of the pairs that are due. Or dict: the variant after the verdict (`gate.kept`), which
        stands in it as ``if_better`` (`Verdict.facts`).
    """

    made: Mapping[str, Any]
    wish: Mapping[str, Any]
    pictures: int
    scores: Sequence[tuple[Mapping[str, float], ...]] = ()
    flagged: Sequence[tuple[bool, ...]] = ()
    group: Hashable = None
    size: int = 1


@dataclass(frozen=True)
class Scoring:
    """A batch to be scored by one reward, alone, so that its scores do not depend on who else asks.

    Attributes:
        reward: The reward's name.
        batch: As `neuroprompt.rewards.remote.pack` writes it.

    Answer:
        dict: ``scores``, each a number, or None where there is none that is finite; and the reward's ``fingerprint``.
    """

    reward: str
    batch: bytes
    group: Hashable = None
    size: int = 1


def rewards(settings: ServeSettings | RewardServerSettings) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """The part that judges; see `work.Answers`. To `Describe` it answers what each reward is: ``name``,
    ``fingerprint``, and whether it ``reads_text``."""
    import torch

    from neuroprompt.image_files import decode_image
    from neuroprompt.models import pick_device
    from neuroprompt.rewards import RewardSet, load_rewards
    from neuroprompt.rewards.remote import unpack

    device = pick_device(settings.device)
    judge = load_rewards(settings.rewards, settings.reward_source, device)
    sets = {component.reward.name: RewardSet([component]) for component in judge.components}
    said = {
        name: {"fingerprint": own.fingerprint, "reads_text": bool(getattr(own, "reads_text", False))}
        for name, own in ((component.reward.name, component.reward) for component in judge.components)
    }

    weighed = _weighing(judge)

    def judged(asked: Judging) -> Judged:
        check_prompt(asked.prompt)
        answers: dict[str, Any] = {}
        scores = judge.score_picture(asked.prompt, decode_image(asked.picture), answers, asked.text)
        said = {
            name: [{"question": question.text, "answer": question.answer, "score": score} for question, score in own]
            for name, (own,) in answers.items()
        }
        return Judged(scores, said)

    def scored(asked: Scoring) -> Any:
        if asked.reward not in sets:
            raise Problem(404, f"there is no reward {asked.reward!r} here: it has {', '.join(sets)}", "no_such_reward")
        prompts, pictures, texts = unpack(asked.batch)
        longest = max(map(len, [*prompts, *(texts or ())]), default=0)
        refuse_excess(
            {
                "pictures": (len(prompts), settings.max_prompts),
                "characters in a prompt": (longest, settings.max_prompt_length),
            }
        )
        scores = sets[asked.reward](prompts, pictures.to(device).float() / 255, texts)[asked.reward].float().cpu()
        known = torch.isfinite(scores).tolist()
        return {
            "scores": [score if finite else None for score, finite in zip(scores.tolist(), known, strict=True)],
            "fingerprint": said[asked.reward]["fingerprint"],
        }

    def answer(asked: Any) -> Any:
        try:
            if isinstance(asked, Describe):
                return [{"name": name, **description} for name, description in said.items()]
            does = {Scoring: scored, Weighing: weighed, Judging: judged}[type(asked)]
            return does(asked)
        except Problem as problem:
            return problem
        except ValueError as error:
            return refusal(error)

    return lambda batch: [answer(asked) for asked in batch]


def _weighing(judge: "RewardSet") -> Callable[[Weighing], Any]:
    """What answers `Weighing`."""

    @lru_cache
    def gate_of(pictures: int, seed: int) -> "Gate":
        from neuroprompt.gate import Gate
        from neuroprompt.scoring import PromptReward

        return Gate(PromptReward(None, judge, seed=seed), pictures=pictures)  # the front has them drawn

    def weighed(asked: Weighing) -> Any:
        import numpy as np

        from neuroprompt.decoding import Constraints
        from neuroprompt.enhancer import EnhancedPrompt, Modifier
        from neuroprompt.gate import kept

        made = asked.made
        trial = gate_of(asked.pictures, made["seed"]).trial(made["original"], made["text"])
        if asked.scores:
            names = asked.scores[0][0]
            scores = {name: np.array([[own[name] for own in pair] for pair in asked.scores]) for name in names}
            trial.add(scores, np.array(asked.flagged))
        if not trial.verdict:
            return trial.due
        own = {field.name: made[field.name] for field in fields(EnhancedPrompt)}
        own |= {"modifiers": tuple(Modifier(**modifier) for modifier in made["modifiers"])}
        left = kept(EnhancedPrompt(**own), trial.verdict, Constraints(**asked.wish)).to_dict()
        spans = made["kept"] if left["text"] == made["text"] else None
        return left | {"kept": spans, "if_better": trial.verdict.facts()}

    return weighed

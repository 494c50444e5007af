"""What judges pictures, as a part of `Workers`: files for a prompt by all rewards, and batches of tensors by one."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from neuroprompt.completions import check_prompt
from neuroprompt.server.errors import Problem, refusal, refuse_excess
from neuroprompt.server.generators import Describe
from neuroprompt.server.settings import RewardServerSettings, ServeSettings


@dataclass(frozen=True)
class Judging:
    """A picture to be judged for a prompt.

    Attributes:
        picture: A file, as bytes.

    Answer:
        dict[str, float]: The score of each reward.
    """

    prompt: str
    picture: bytes
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

    def judged(asked: Judging) -> Any:
        check_prompt(asked.prompt)
        return judge.score_picture(asked.prompt, decode_image(asked.picture))

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
            return scored(asked) if isinstance(asked, Scoring) else judged(asked)
        except Problem as problem:
            return problem
        except ValueError as error:
            return refusal(error)

    return lambda batch: [answer(asked) for asked in batch]

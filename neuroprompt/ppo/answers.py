"""What a policy wrote, read as a prompt, and the rewards of policies whose text replaces the prompt."""

from collections.abc import Callable, Sequence

from neuroprompt.completions import finish
from neuroprompt.decoding import Constraints, check
from neuroprompt.formats import Answer, PromptFormat
from neuroprompt.locked import lock
from neuroprompt.ppo.reward_functions import RewardFunc, name_of, weighted_sum
from neuroprompt.prompts import Window, WindowLike
from neuroprompt.retelling import Retelling


def asked(prompts: Sequence[str], prompt_format: PromptFormat) -> list[str]:
    """The prompts as a policy is asked about them: one that replaces them reads them as language (`locked.Locked`)."""
    return [lock(prompt).asked or prompt for prompt in prompts] if prompt_format.replaces else list(prompts)


def finished(prompt_format: PromptFormat, prompt: str, written: str, ended: bool, window: WindowLike) -> Answer:
    """The finished prompt that a policy's text makes of a plain one, or why there is none, as at inference.

    Args:
        prompt_format: How the policy was asked.
        prompt: The plain prompt.
        written: What the policy wrote, without special tokens.
        ended: Whether it came to its end token by itself.
        window: What the result must fit: what continues a prompt by leaving out modifiers, what replaces it by leaving
            out sentences.
    """
    if prompt_format.replaces:
        retelling = Retelling.of(prompt, None, (), False, prompt_format)
        return retelling.finish(prompt_format.read(prompt, written, ended), Window.of(window))
    if prompt_format.stop:
        written = prompt_format.read(prompt, written, ended).text[len(prompt) :]
    return Answer(finish(prompt, written, ended, window)[0])


class OfAnswers:
    """A reward function of the prompts that a policy's answers are, for policies whose text replaces the prompt.

    It is called as any reward function of the trainers, and calls `function` with the rows whose answers are whole
    prompts, and with these as a further column, `texts`; `prompts` are the plain ones, and `completions` what the
    policy wrote. The other rows, whose answer is empty, was cut off or did not come to the end of its thinking, are
    worth `unparsed_reward`. Into the log go their share, `unparsed`, and `kept`: how many of the content words of its
    prompt an answer has, in one form or another.

    Args:
        function: What the others are worth.
        prompt_format: How the policy is asked.
        eos_token_id: Its end token; an answer whose ids do not end with it was cut off.
        window: What an answer must fit, as in `finished`.
        unparsed_reward: In the unit of the reward.
    """

    def __init__(
        self,
        function: RewardFunc,
        prompt_format: PromptFormat,
        eos_token_id: int,
        window: WindowLike = None,
        unparsed_reward: float = -2.0,
    ):
        self.function, self.prompt_format, self.eos_token_id = function, prompt_format, eos_token_id
        self.window, self.unparsed_reward = window, unparsed_reward
        self.__name__ = name_of(function)

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **columns,
    ) -> list[float]:
        """A reward for each completion."""
        answers = [
            finished(self.prompt_format, prompt, written, list(ids[-1:]) == [self.eos_token_id], self.window)
            for prompt, written, ids in zip(prompts, completions, completion_ids, strict=True)
        ]
        rewards = [self.unparsed_reward] * len(answers)
        there = [i for i, answer in enumerate(answers) if answer.problem is None]
        log_metric("unparsed", 1 - len(there) / len(answers))
        if not there:
            return rewards
        columns |= {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
        columns |= {"texts": [answer.text for answer in answers]}
        rows = {n: [v[i] for i in there] if isinstance(v, list | tuple) else v for n, v in columns.items()}
        log_metric("kept", sum(map(kept, rows["prompts"], rows["texts"])) / len(there))
        given, measured = weighted_sum([self.function], [1.0], **rows)
        for name, values in measured.items():
            for value in values:
                log_metric(name, value)
        for i, reward in zip(there, given.tolist(), strict=True):
            rewards[i] = reward
        return rewards


def kept(prompt: str, text: str) -> float:
    """The share of the content words of `prompt` that `text` has, in one form or another; 1 where it has none."""
    clauses = lock(prompt).clauses
    return check(text, Constraints(require=clauses, anywhere=True)).satisfied / len(clauses) if clauses else 1.0

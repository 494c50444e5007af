"""What a worker process does: it loads one part (the policy, the generator or the rewards) and answers batches.

    python -m neuroprompt.server.work

It reads from its standard input what part it is and the settings, then batches, and writes what came of them to its
standard output; frames of eight bytes of length and a pickle, between processes of one server alone. It ends when its
input does, and on Linux the moment that its parent dies, whatever it is doing.

Here are, for the front, too, what it may ask for: `Rewrite`, `Judging`. This module imports no torch; what a part takes to
load is imported where it is loaded. Another part is a request, a function in `PARTS`, and its line in `Workers`.
"""

import ctypes
import io
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import neuroprompt.threads  # noqa: F401 (before torch)
from neuroprompt.decoding import Constraints
from neuroprompt.server.errors import Problem
from neuroprompt.server.settings import ServeSettings


@dataclass(frozen=True)
class Rewrite:
    """A prompt to be rewritten.

    Attributes:
        decoding: Settings of `enhancer.Decoding`, as pairs, sorted; without `batch_size`, which is the operator's.
        sequences: How many are decoded for it, about: variants, and beams.

    Answer:
        list[dict]: `EnhancedPrompt.to_dict()` of each variant.
    """

    prompt: str
    constraints: Constraints | None = None
    decoding: tuple[tuple[str, Any], ...] = ()

    @property
    def group(self) -> Hashable:
        return self.decoding, bool(self.constraints)

    @property
    def size(self) -> int:
        asked = dict(self.decoding)
        variants, beams = asked.get("num_return_sequences", 1), asked.get("num_beams", 5)
        sampled = variants > 1 if asked.get("do_sample") is None else asked["do_sample"]
        return (variants if sampled else 1) * (beams if self.constraints or not sampled else 1)


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


# --- the parts: each is loaded once, and answers batches ---------------------------------------------------------

Answers = Callable[[Sequence[Any]], Sequence[Any]]
"""Requests in, for each its answer out, in order; or the `Problem` or ValueError of those that can have none."""


def policy(settings: ServeSettings) -> Answers:
    from neuroprompt.completions import check_prompt
    from neuroprompt.enhancer import PromptEnhancer

    enhancer = PromptEnhancer.from_pretrained(settings.model, device=settings.device)

    def rewrite(batch: Sequence[Rewrite]) -> list[Any]:
        decoding = dict(batch[0].decoding)
        answers: list[Any] = [None] * len(batch)
        for i, asked in enumerate(batch):
            try:
                check_prompt(asked.prompt, asked.constraints, decoding.get("window", 77))
            except ValueError as error:
                answers[i] = error
        good = [i for i, answer in enumerate(answers) if answer is None]
        try:
            made = enhancer.rewrite(
                [batch[i].prompt for i in good],
                [batch[i].constraints for i in good],
                **decoding,
                batch_size=settings.batch_size,
            )
        except ValueError as error:  # of the settings, which all share
            return [error] * len(batch)
        for i, variants in zip(good, made, strict=True):
            answers[i] = [variant.to_dict() for variant in variants]
        return answers

    rewrite([Rewrite("a cat")])  # the first takes longest: nobody should wait for it
    return rewrite


def rewards(settings: ServeSettings) -> Answers:
    import torch
    from PIL import Image
    from torchvision.transforms.v2.functional import to_dtype, to_image

    from neuroprompt.rewards import load_rewards

    source = settings.reward_model or ("embedded" if settings.generator == "embedded" else "published")
    judge = load_rewards(settings.rewards, source, settings.device)

    def score(batch: Sequence[Judging]) -> list[Any]:
        answers: list[Any] = []
        for asked in batch:
            try:
                with Image.open(io.BytesIO(asked.picture)) as picture:
                    tensor = to_dtype(to_image(picture.convert("RGB")), torch.float32, scale=True)  # (3, height, width)
            except Exception:  # Pillow raises a dozen kinds
                answers.append(ValueError("the picture cannot be read: send a whole PNG, JPEG or WebP file"))
                continue
            answers.append({name: float(value) for name, value in judge([asked.prompt], tensor[None]).items()})
        return answers

    return score


PARTS: dict[str, Callable[[ServeSettings], Answers]] = {"policy": policy, "rewards": rewards}
"""What loads a part, by its name."""


# --- the process -------------------------------------------------------------------------------------------------


def main() -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):  # they are for the front, which says when there is nothing to do
        signal.signal(stop, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    part, settings = _read(orders)
    try:
        import torch

        from neuroprompt.programs import quiet_libraries

        torch.set_num_threads(1)
        quiet_libraries()
        answer = PARTS[part](settings)
    except Exception as error:
        return _write(answers, _refusal(error))
    _write(answers, None)
    while batch := _read(orders):
        _write(answers, _answers(answer, batch))


def _answers(answer: Answers, batch: list[Any]) -> list[Any]:
    try:
        return list(answer(batch))
    except Exception as error:
        if len(batch) > 1:  # so that only the one at fault gets none
            return [result for asked in batch for result in _answers(answer, [asked])]
        places = traceback.format_tb(error.__traceback__)  # without the error's text, which may quote a prompt
        print(f"{type(error).__name__}\n{''.join(places)}", file=sys.stderr, flush=True)
        return [Problem(500, "this request could not be answered: the server's log says where it failed", "failed")]


def _refusal(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read(stream: BinaryIO) -> Any:
    """The next frame; None at the end of the stream."""
    length = stream.read(8)
    return pickle.loads(stream.read(int.from_bytes(length, "big"))) if length else None


def _write(stream: BinaryIO, value: object) -> None:
    data = pickle.dumps(value)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


if __name__ == "__main__":
    main()

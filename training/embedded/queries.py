"""Plain prompts about what the embedded generator can draw, for reinforcement learning and for its evaluation.

    python -m training.embedded.queries --output configs/ppo/queries

A quarter of the subjects is held out, with every wording of them and every scene that one of them is in; so are the
prompts that the documentation shows. Held-out prompts also open with words that no training prompt has. An eighth of
them is for the evaluations during a training (validation), which choose its best checkpoint; results are about the rest
(test).
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import typer

from training.embedded.images.diffusion import SHEET_SUBJECTS
from training.embedded.images.pictures import read_subjects, scenes

OPENINGS = {"train": ("picture of", "drawing of", "a photo of"), "heldout": ("image of", "illustration of")}


def held_out(subject: str) -> bool:
    """A quarter of the subjects, by hash."""
    return blake2b(subject.encode(), digest_size=1).digest()[0] < 64


def queries() -> dict[str, list[str]]:
    """Different plain prompts for "train", "validation" and "test", in an order that is random and always the same."""
    shown = {_key(prompt) for prompt in SHEET_SUBJECTS}
    found: dict[str, dict[str, None]] = {"train": {}, "heldout": {}}

    def add(split: str, phrases: Sequence[str]) -> None:
        for phrase in phrases:
            texts = [phrase[1:]] if phrase.startswith("~") else [phrase, _with_article(phrase)]
            where = "heldout" if _key(texts[0]) in shown else split
            opening = OPENINGS[where][_hash(phrase) % len(OPENINGS[where])]
            found[where] |= dict.fromkeys([*texts, f"{opening} {texts[-1]}"])

    for subject, (_, _, phrases) in read_subjects().items():
        add("heldout" if held_out(subject) else "train", phrases)
    for scene in scenes():
        held = any(held_out(layer.subject) for layer in scene.layers)
        add("heldout" if held else "train", scene.phrases[:1])
    # Some subjects share a name with another or with a scene's part: what is held out is not trained on.
    secret = {_key(text) for text in found["heldout"]}
    train = [text for text in found["train"] if _key(text) not in secret]
    heldout = sorted(found["heldout"], key=_hash)
    test = [text for i, text in enumerate(heldout) if i % 8]
    return {"train": sorted(train, key=_hash), "validation": heldout[::8], "test": test}


def main(output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")]) -> None:
    """Write the prompts, one a line."""
    output.mkdir(parents=True, exist_ok=True)
    for split, prompts in queries().items():
        (output / f"{split}.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
        typer.echo(f"{len(prompts):,} prompts in {output / split}.txt")


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _key(prompt: str) -> str:
    """A prompt without what may stand before its subject."""
    text = prompt.lower()
    for opening in (o for of in OPENINGS.values() for o in of):
        text = text.removeprefix(f"{opening} ")
    return text.removeprefix("a ").removeprefix("an ")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


if __name__ == "__main__":
    typer.run(main)

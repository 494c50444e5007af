"""The cards of the embedded image models: card.md, filled with the figures that `evaluate` measured."""

import json
from pathlib import Path

CARD = Path(__file__).with_suffix(".md")

OTHERS = "Part of the [embedded image models](../stable-diffusion/README.md): {what}. Licence: Apache-2.0.\n"


def write_cards(figures: dict, log: Path, subjects: int, output: Path, sheet: str) -> None:
    """README.md in each of the models' folders under `output`.

    Args:
        figures: What evaluate.evaluate() returned.
        log: The diffusion model's log.jsonl.
        subjects: How many there are.
        sheet: File name of the contact sheet, beside the card of `stable-diffusion`.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = [line for line in lines if "step" in line][-1]
    joint = next((line["resumed_at"] for line in lines if line.get("frozen")), last["step"])
    training = f"The UNet saw {last['samples']:,} pictures in {last['step']:,} steps; "
    if any(line.get("restored") for line in lines):
        training += "before, it had learnt together with the text encoder, for a time of which no log is left."
    else:
        training += f"the text encoder learnt with it in the first {joint:,}."
    rewards = figures["rewards"]
    names = {
        "quality_words": "with quality words",
        "plain": "plain",
        "low_quality_words": 'with "blurry, low quality" …',
    }
    columns = ("pickscore", "pickscore_against_plain", "aesthetic", "aesthetic_against_plain")
    variants = "\n".join(
        f"| {name} | {' | '.join(_interval(rewards[key].get(column)) for column in columns)} |"
        for key, name in names.items()
    )
    card = CARD.read_text(encoding="utf-8").format(
        unet=5.71,
        subjects=subjects,
        sheet=sheet,
        training=training,
        count=rewards["subjects"],
        seeds=rewards["seeds"],
        nearest=figures["nearest"],
        style=figures["style_by_clip"],
        retrieval=figures["clip_retrieval"],
        agreed=figures["pickscore_agreement"],
        rewards=rewards,
        variants=variants,
    )
    (output / "stable-diffusion" / "README.md").write_text(card, encoding="utf-8")
    for folder, what in (
        ("clip", "a `CLIPModel` whose text tower is the diffusion model's text encoder"),
        ("pickscore", "that CLIP, fine-tuned on preference pairs with PickScore's loss"),
        ("aesthetic", "a head over CLIP's image embedding, in the shape of LAION's v2"),
    ):
        (output / folder / "README.md").write_text(OTHERS.format(what=what), encoding="utf-8")


def _interval(values: list[float] | None) -> str:
    if values is None:
        return ""
    mean, low, high = values
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"

"""What the embedded vision-language model can do, in numbers, a contact sheet and a card.

It is asked through `neuroprompt.rewards`, as users ask it, about icons that it never learnt from (subject and style
pairs that are held out, and compositions of them), and about the embedded generator's own pictures of prompts whose
subjects no training prompt of PPO has. Every yes has its no.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file
from torch import Tensor

from neuroprompt.rewards.echo import INSTRUCTION, PromptEcho
from neuroprompt.rewards.vision_language import VisionLanguage
from neuroprompt.rewards.vqa import TEMPLATE, VqaScore
from neuroprompt.statistics import bootstrap

from .clip import Renderings
from .conversations import COLOURS, NUMBERS, Lexicon, Picture, Sights
from .diffusion import draw

CARD = Path(__file__).with_name("vlm.md")
FONT = Path(__file__).parents[3] / "neuroprompt" / "assets" / "fonts" / "Inter-Regular.ttf"
COMPOSED = ("count", "colour", "relation")


def load_judge(folder: Path) -> VisionLanguage:
    return VisionLanguage.load(str(folder), torch.device("cpu"), torch.float32)


def judge(
    folder: Path, data: Path, table: Path, generator: Path, prompts: Path, number: int = 400, seed: int = 0
) -> dict:
    """All figures, each a mean with its 95 % bootstrap interval over pictures.

    Args:
        folder: What `export-vlm` wrote. data: What `data` wrote. table: The pictures' table.
        generator: The exported Stable Diffusion. prompts: A file of plain prompts that it can draw, one a line.
        number: Pictures that are composed of each kind, and drawn.
    """
    model = load_judge(folder)
    rng = np.random.default_rng(seed)
    renderings = Renderings(data)
    sights = Sights(table, "heldout", renderings.common)
    heldout = [
        (sights.rendering(renderings.rows[i], renderings.images[i], rng, plain=1.0), renderings.rows[i])
        for i in renderings.heldout
    ]
    clean = [picture for picture, row in heldout if not row["filter"] and row["quality"] != "low"]
    rest = [picture for picture, row in heldout if row["filter"] or row["quality"] == "low"]
    composed = {kind: [sights.composed(kind, rng) for _ in range(number)] for kind in COMPOSED}
    return {
        "held_out_icons": _told(model, clean, _of_others(sights.lexicon, clean, rng), rng),
        "held_out_icons_near": _told(model, clean, None, rng),
        "held_out_icons_filtered_or_damaged": _told(model, rest, _of_others(sights.lexicon, rest, rng), rng),
        "composed_of_held_out_icons": {kind: _told(model, pictures, None, rng) for kind, pictures in composed.items()},
        "questions": {
            "subject": _answers(model, clean, "subject", rng),
            **{kind: _answers(model, pictures, kind, rng) for kind, pictures in composed.items()},
        },
        "generated": _generated(model, generator, prompts, number, rng),
    }


def _of_others(lexicon: Lexicon, pictures: Sequence[Picture], rng: np.random.Generator) -> list[str]:
    """For each picture a prompt that is true of another of them, whose subject is not alike."""
    wrong = []
    for picture in pictures:
        others = [other for other in pictures if not lexicon.alike(picture.subjects[0], other.subjects)]
        wrong.append(others[int(rng.integers(len(others)))].say(True, rng))
    return wrong


def _told(
    model: VisionLanguage, pictures: Sequence[Picture], wrong: Sequence[str] | None, rng: np.random.Generator
) -> dict:
    """`echo` and `vqa` for a true prompt of each picture and a false one; None: as near as those of the training."""
    right = [picture.say(True, rng) for picture in pictures]
    return _pairs(model, tensor(pictures), right, wrong or [picture.say(False, rng) for picture in pictures])


def _pairs(model: VisionLanguage, images: Tensor, right: Sequence[str], wrong: Sequence[str]) -> dict:
    echo, vqa = PromptEcho(model, INSTRUCTION), VqaScore(model, TEMPLATE)
    likely, unlikely = echo(right, images), echo(wrong, images)
    yes, no = vqa(right, images), vqa(wrong, images)
    return {
        "pictures": len(images),
        "echo_right_above_wrong": bootstrap((likely > unlikely).float().tolist()),
        "echo_difference": bootstrap((likely - unlikely).tolist()),
        "vqa_right": bootstrap((((yes > 0.5).float() + (no < 0.5).float()) / 2).tolist()),
        "vqa_right_above_wrong": bootstrap((yes > no).float().tolist()),
        "vqa_of_right": bootstrap(yes.tolist()),
        "vqa_of_wrong": bootstrap(no.tolist()),
    }


def _answers(model: VisionLanguage, pictures: Sequence[Picture], kind: str, rng: np.random.Generator) -> dict:
    """Share of right answers to a question of that kind whose answer is yes, and to one whose answer is no."""
    images = tensor(pictures)
    asked = {truth: [ask(picture, kind, truth, rng) for picture in pictures] for truth in (True, False)}
    yes, no = (model.yes(images, asked[truth]) for truth in (True, False))
    right = torch.stack([yes > 0.5, no < 0.5]).float()
    found = {"pictures": len(pictures), "right": bootstrap(right.mean(0).tolist()),
             "yes": bootstrap(right[0].tolist()), "no": bootstrap(right[1].tolist())}  # fmt: skip
    words = {"count": NUMBERS, "colour": tuple(COLOURS)}.get(kind, ())
    for word in words:  # by the word that is asked for
        of = torch.tensor(
            [[word in question.split(" ") or f"{word}?" in question for question in asked[t]] for t in (True, False)]
        )
        if of.any():
            found[word] = right[of].mean().item()
    return found


def ask(picture: Picture, kind: str, truth: bool, rng: np.random.Generator) -> str:
    """A question about an atom as the reward `atoms` asks it."""
    return f"{picture.asks[kind](truth, rng)} Please answer yes or no."


def _generated(model: VisionLanguage, generator: Path, prompts: Path, number: int, rng: np.random.Generator) -> dict:
    """The generator's pictures of plain prompts, against prompts that share no word with them.

    What it draws is not always what it was asked for, so only the order of the two is judged.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(generator)
    pipeline.set_progress_bar_config(disable=True)
    known = prompts.read_text(encoding="utf-8").splitlines()
    right = [known[i] for i in rng.choice(len(known), min(number, len(known)), replace=False)]
    wrong = []
    for prompt in right:
        others = [other for other in known if not Lexicon.words(prompt) & Lexicon.words(other)]
        wrong.append(others[int(rng.integers(len(others)))])
    images = torch.from_numpy(draw(pipeline, right, list(range(len(right))))).permute(0, 3, 1, 2) / 255
    return _pairs(model, images, right, wrong)


def tensor(pictures: Sequence[Picture]) -> Tensor:
    """(n, 3, 64, 64) in [0, 1]."""
    return torch.from_numpy(np.stack([picture.rgb for picture in pictures])).permute(0, 3, 1, 2) / 255


# --------------------------------------------------------------------------------------------------- sheet and card


def answer_sheet(folder: Path, data: Path, table: Path, seed: int = 1, columns: int = 4, rows: int = 5) -> Image.Image:
    """Held-out pictures with a question, its right answer, the probability of yes, and the likeliest description.

    None is chosen: pictures, questions and answers come as the seed has them.
    """
    model, rng = load_judge(folder), np.random.default_rng(seed)
    renderings = Renderings(data)
    sights = Sights(table, "heldout", renderings.common)
    pictures, kinds = [], []
    for number in range(columns * rows):
        kind = ("subject", *COMPOSED, "show")[number % 5]
        if kind in COMPOSED:
            pictures.append(sights.composed(kind, rng))
        else:
            index = int(rng.choice(renderings.heldout))
            pictures.append(sights.rendering(renderings.rows[index], renderings.images[index], rng, plain=1.0))
        kinds.append(kind)
    truths = [bool(rng.random() < 0.5) for _ in pictures]
    asked = [
        picture.question(kind, truth, rng) if kind == "show" else ask(picture, kind, truth, rng)
        for picture, kind, truth in zip(pictures, kinds, truths, strict=True)
    ]
    images = tensor(pictures)
    yes = model.yes(images, asked).tolist()
    told = describe(model, images)
    font, side, width, height = ImageFont.truetype(FONT, 13), 128, 380, 136
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        left, top = number % columns * width, number // columns * height
        large = Image.fromarray(np.ascontiguousarray(picture.rgb)).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(large, (left, top))
        right = (yes[number] > 0.5) == truths[number]
        question = asked[number].removesuffix(" Please answer yes or no.")
        lines = [
            *wrapped(question, font, width - side - 20),
            f"{'yes' if truths[number] else 'no'} is right; P(yes) = {yes[number]:.2f}",
            *wrapped(f"“{told[number]}”", font, width - side - 20),
        ]
        for line, text in enumerate(lines):
            verdict = text.endswith(f"P(yes) = {yes[number]:.2f}")
            colour = ("#0a7a2f" if right else "#b3261e") if verdict else "black"
            pen.text((left + side + 8, top + 4 + 17 * line), text, fill=colour, font=font)
    return sheet


def describe(model: VisionLanguage, images: Tensor) -> list[str]:
    """The likeliest token after the other: what the model says of pictures (n, 3, H, W)."""
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]}]
    text = model.processor.apply_chat_template(turn, add_generation_prompt=True)
    pictures = [Image.fromarray((i.permute(1, 2, 0) * 255).round().byte().numpy()) for i in images]
    inputs = model.processor(images=pictures, text=[text] * len(pictures), return_tensors="pt")
    ids = model.model.generate(**inputs, max_new_tokens=20, do_sample=False)
    return model.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def write_card(figures: dict, folder: Path, log: Path) -> None:
    """README.md in the model's folder: vlm.md with the figures that `judge` measured and what the log says."""
    last = json.loads(log.read_text().splitlines()[-1])
    parameters = sum(t.numel() for t in load_file(folder / "model.safetensors").values()) / 1e6

    def row(name: str, found: dict) -> str:
        values = (found[k] for k in ("echo_right_above_wrong", "vqa_right", "vqa_right_above_wrong"))
        return f"| {name} | {found['pictures']} | {' | '.join(map(_share, values))} |"

    told = {
        "held-out icons, another subject's prompt": figures["held_out_icons"],
        "the same, filtered or damaged": figures["held_out_icons_filtered_or_damaged"],
        "the embedded generator's pictures, another prompt": figures["generated"],
        "held-out icons, a near prompt": figures["held_out_icons_near"],
        "one to four held-out icons of a kind, a near prompt": figures["composed_of_held_out_icons"]["count"],
        "tinted held-out icons, a near prompt": figures["composed_of_held_out_icons"]["colour"],
        "two held-out icons, a near prompt": figures["composed_of_held_out_icons"]["relation"],
    }
    asked = {
        "Is there a fox?": "subject", "Are there three foxes?": "count", "Is the fox red?": "colour",
        "Is the fox to the left of the owl?": "relation",
    }  # fmt: skip
    answers = [
        f"| {example} | {found['pictures']} | {' | '.join(_share(found[k]) for k in ('right', 'yes', 'no'))} |"
        for example, kind in asked.items()
        for found in [figures["questions"][kind]]
    ]
    text = CARD.read_text(encoding="utf-8").format(
        sheet="sheet.webp", parameters=parameters, samples=last["samples"], steps=last["step"],
        minutes=last["minutes"],
        told="\n".join(row(name, found) for name, found in told.items()), answers="\n".join(answers),
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


def _share(interval: Sequence[float]) -> str:
    mean, low, high = interval
    return f"{mean:.1%} [{low:.1%}, {high:.1%}]"

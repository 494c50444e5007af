"""What the embedded image models can do, in numbers: the command `evaluate` prints and writes them.

Pictures are drawn by the folders that export.py wrote, as users load them. Do they show the subject and the style that
were asked for, judged by the nearest of all icons (pixels) and by CLIP? And do the rewards rank prompts as they should?
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from neuroprompt.statistics import bootstrap, compare

from .autoencoder import to_pixels
from .captions import HIGH_WORDS, LOW_WORDS, STYLE_WORDS
from .clip import Renderings, retrieval
from .diffusion import draw
from .pictures import COLOUR_SETS, SETS, load_icons, read_subjects
from .preferences import AestheticHead, agreement


def evaluate(exported: Path, data: Path, pictures: Path, subjects: int = 200, seeds: int = 4, seed: int = 0) -> dict:
    """All figures as a nested dictionary.

    `pictures` is the icons' table, `exported` what export() wrote; rewards are means over `seeds` pictures of a prompt.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(exported / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    clip = CLIPModel.from_pretrained(exported / "clip").eval()
    pickscore = CLIPModel.from_pretrained(exported / "pickscore").eval()
    head = AestheticHead().eval()
    head.load_state_dict({k: v.float() for k, v in load_file(exported / "aesthetic" / "model.safetensors").items()})
    renderings = Renderings(data)
    rng = np.random.default_rng(seed)
    known = read_subjects()
    chosen = [str(s) for s in rng.choice(list(known), min(subjects, len(known)), replace=False)]
    return {
        "nearest": _nearest(pipeline, pictures, chosen, rng),
        "style_by_clip": _style_by_clip(pipeline, clip, renderings, chosen, rng),
        "clip_retrieval": retrieval(clip, renderings),
        "pickscore_agreement": agreement(pickscore, renderings),
        "rewards": _rewards(pipeline, clip, pickscore, head, renderings, chosen, seeds, rng),
    }


def _prompt(subject: str) -> str:
    phrase = read_subjects()[subject][2][0]
    return phrase[1:] if phrase.startswith("~") else f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _nearest(pipeline, pictures: Path, chosen: list[str], rng: np.random.Generator) -> dict[str, float]:
    """Draw each subject in one random style; look which icon is nearest in 32 x 32 pixels."""
    icons = load_icons(pictures)
    have = set(zip(icons.subject, icons.set, strict=True))
    wanted = [(s, t) for s in chosen for t in rng.permutation(list(SETS)).tolist() if (s, t) in have]
    wanted = list({s: (s, t) for s, t in wanted}.values())
    prompts = [f"{_prompt(s)}, {', '.join(STYLE_WORDS[t][:3])}" for s, t in wanted]
    drawn = _small(draw(pipeline, prompts, list(range(len(prompts)))))
    distance = torch.cdist(drawn, _small(np.stack(icons.rgb)))
    order = distance.argsort(1)[:, :40].numpy()
    subject, style = icons.subject.to_numpy(), icons["set"].to_numpy()
    ranked = [list(dict.fromkeys(subject[row])) for row in order]
    return {
        "pictures": len(wanted),
        "style": float(np.mean([style[row[0]] == t for row, (_, t) in zip(order, wanted, strict=True)])),
        "subject": float(np.mean([names[0] == s for names, (s, _) in zip(ranked, wanted, strict=True)])),
        "subject_top5": float(np.mean([s in names[:5] for names, (s, _) in zip(ranked, wanted, strict=True)])),
    }


def _small(images: np.ndarray) -> Tensor:
    return F.avg_pool2d(to_pixels(images, torch.device("cpu")), 2).flatten(1)


@torch.no_grad()
def _images(model: CLIPModel, images: np.ndarray) -> Tensor:
    return F.normalize(model.get_image_features(pixel_values=to_pixels(images, model.device)).pooler_output, dim=-1)


@torch.no_grad()
def _texts(model: CLIPModel, renderings: Renderings, texts: list[str]) -> Tensor:
    return F.normalize(model.get_text_features(input_ids=renderings.tokens(texts, model.device)).pooler_output, dim=-1)


def _style_by_clip(pipeline, clip: CLIPModel, renderings: Renderings, chosen: list[str], rng) -> dict[str, float]:
    """Draw each subject in one random style; CLIP picks the style from the captions of all styles."""
    words = {style: ", ".join(STYLE_WORDS[style][:2]) for style in SETS}
    asked = rng.integers(0, len(words), len(chosen))
    styles = list(words.values())
    images = _images(
        clip,
        draw(
            pipeline,
            [f"{_prompt(s)}, {styles[k]}" for s, k in zip(chosen, asked, strict=True)],
            list(range(len(chosen))),
        ),
    )
    options = torch.stack([_texts(clip, renderings, [f"{_prompt(s)}, {w}" for w in styles]) for s in chosen])
    picked = torch.einsum("nd,nkd->nk", images, options).argmax(1).numpy()
    coloured = np.array([list(words)[k] in COLOUR_SETS for k in asked])
    return {
        "pictures": len(chosen),
        "right": float((picked == asked).mean()),
        "colour_only": float((picked == asked)[coloured].mean()),
    }


@torch.no_grad()
def _rewards(pipeline, clip, pickscore, head, renderings: Renderings, chosen: list[str], seeds: int, rng) -> dict:
    """Each subject plain, with words of high and of low quality, same seeds; scored against the plain prompt."""
    plain = [_prompt(s) for s in chosen]
    variants = {
        "quality_words": [f"{p}, {', '.join(rng.choice(HIGH_WORDS[:12], 5, replace=False))}" for p in plain],
        "plain": plain,
        "low_quality_words": [f"{p}, {', '.join(rng.choice(LOW_WORDS[:8], 2, replace=False))}" for p in plain],
    }
    text = _texts(pickscore, renderings, plain)
    scale = pickscore.logit_scale.exp()
    result: dict = {"subjects": len(chosen), "seeds": seeds}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name, prompts in variants.items():
        drawn = [draw(pipeline, prompts, list(range(n * len(prompts), (n + 1) * len(prompts)))) for n in range(seeds)]
        images = np.concatenate(drawn)
        embedded = _images(pickscore, images).unflatten(0, (seeds, -1))  # (seeds, subjects, width)
        picked = (scale * (embedded * text).sum(-1)).mean(0).numpy()
        rated = head(_images(clip, images)).view(seeds, -1).mean(0).numpy()
        scores[name] = {"pickscore": picked, "aesthetic": rated}
        result[name] = {reward: bootstrap(values) for reward, values in scores[name].items()}  # mean, low, high
        if name == "plain":
            # Against the caption of another subject, for the same picture.
            others = text[torch.from_numpy(np.roll(np.arange(len(plain)), 1 + int(rng.integers(len(plain) - 1))))]
            result["right_caption_wins"] = ((embedded * (text - others)).sum(-1) > 0).float().mean().item()
    for name in ("quality_words", "low_quality_words"):
        for reward, values in scores[name].items():
            result[name][f"{reward}_against_plain"] = compare(values, scores["plain"][reward]).difference
    return result

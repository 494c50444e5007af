"""Data sets of the model hub in small: their files, columns and types, with made-up rows."""

import json
import random
from pathlib import Path

import pandas as pd

from neuroprompt.modifiers import CATEGORIES, suggestions

SUBJECTS = [line.strip() for line in Path("configs/ppo/queries/train.txt").read_text("utf-8").splitlines()]


def expert_prompts(count: int) -> list[str]:
    """Subjects with three to nine modifiers each, all different; every third is a plain subject of a few words."""
    terms = [term for category in CATEGORIES for term, _ in suggestions(category, 40)]
    draw = random.Random(0)
    prompts = []
    for i in range(count):
        subject = f"{SUBJECTS[i % len(SUBJECTS)]} number {i}"
        modifiers = draw.sample(terms, draw.randint(3, 9)) if i % 3 else []
        prompts.append(", ".join([subject, *modifiers]))
    return prompts


def diffusiondb(folder: Path, count: int = 1000) -> Path:
    """poloclub/diffusiondb: metadata.parquet beside a loading script, which `datasets` does not run any more."""
    (folder / "diffusiondb.py").parent.mkdir(parents=True, exist_ok=True)
    (folder / "diffusiondb.py").write_text("raise SystemExit('the code of a data set was run')\n")
    prompts = expert_prompts(count)
    pd.DataFrame(
        {
            "image_name": [f"{i:032x}.png" for i in range(count)],
            "prompt": prompts,
            "part_id": pd.array([i // 1000 + 1 for i in range(count)], "uint16"),
            "seed": pd.array(range(count), "uint32"),
            "step": pd.array([50] * count, "uint16"),
            "cfg": pd.array([7.0] * count, "float32"),
            "sampler": pd.array([8] * count, "uint8"),
            "width": pd.array([512] * count, "uint16"),
            "height": pd.array([512] * count, "uint16"),
            "user_name": [f"{i % 97:064x}" for i in range(count)],
            "timestamp": pd.to_datetime(["2022-08-20 03:30:00+00:00"] * count),
            "image_nsfw": pd.array([0.1] * count, "float32"),
            "prompt_nsfw": pd.array([0.9 if i % 50 == 1 else 0.01 for i in range(count)], "float32"),
        }
    ).to_parquet(folder / "metadata.parquet")
    return folder


def stable_diffusion_prompts(folder: Path, count: int = 300) -> Path:
    """Gustavosta/Stable-Diffusion-Prompts: one column, "Prompt"."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"Prompt": expert_prompts(count)}).to_parquet(folder / "data" / "train.parquet")
    pd.DataFrame({"Prompt": expert_prompts(100)}).to_parquet(folder / "data" / "eval.parquet")
    return folder


def parti_prompts(folder: Path) -> Path:
    """nateraw/parti-prompts: a tab-separated table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"Prompt": SUBJECTS[:6]})
    table["Category"], table["Challenge"], table["Note"] = "Animals", "Basic", ""
    table.to_csv(folder / "PartiPrompts.tsv", sep="\t", index=False)
    return folder


def draw_bench(folder: Path) -> Path:
    """sayakpaul/drawbench."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"Prompts": SUBJECTS[:200], "Category": ["Colors"] * 200})
    table.to_csv(folder / "drawbench.csv", index=False)
    return folder


def hpd_benchmark(folder: Path) -> Path:
    """zhwang/HPDv2: a list of texts for each of four styles."""
    (folder / "benchmark").mkdir(parents=True, exist_ok=True)
    for i, style in enumerate(("anime", "concept-art", "paintings", "photo")):
        (folder / "benchmark" / f"{style}.json").write_text(json.dumps(SUBJECTS[50 * i : 50 * (i + 1)]))
    return folder


def coco_captions(folder: Path) -> Path:
    """phiyodr/coco2017: five captions a picture."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        captions = [[f"{subject} {k}" for k in range(5)] for subject in SUBJECTS[:60]]
        table = pd.DataFrame({"file_name": [f"{i:012}.jpg" for i in range(60)], "captions": captions})
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder

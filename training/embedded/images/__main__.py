"""Train the embedded image models: `python -m training.embedded.images COMMAND --work DIR`, in the order of `--help`.

Every training command goes on from its last checkpoint when run again; images.md beside this folder explains the whole.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from .loop import LoopConfig

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Work = Annotated[Path, typer.Option(help="Folder for data, checkpoints, logs and contact sheets.")]
Steps = Annotated[int, typer.Option(help="Optimizer steps in all, those before a resume included.")]
Batch = Annotated[int, typer.Option(help="Renderings a step.")]
Rate = Annotated[float, typer.Option(help="Learning rate after warm-up.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]
Workers = Annotated[int, typer.Option(help="Processes that draw the batches; for a GPU, as many as there are cores.")]


def _say(result: object) -> None:
    typer.echo(json.dumps(result, indent=2))


@app.command()
def data(
    work: Work,
    pictures: Annotated[Path, typer.Option(help="The pictures' table (build_images.py makes one).")],
    prompts: Annotated[Path, typer.Option(help="Real prompts for the tokenizer: parquet with a column `prompt`.")],
    keywords: Annotated[Path | None, typer.Option(help="CSV keyword,count of frequent modifiers.")] = None,
    count: Annotated[int, typer.Option(help="Renderings to make.")] = 40_000,
    subjects: Annotated[
        str, typer.Option(help="common: those of subjects.tsv; all: every row (for a GPU).")
    ] = "common",
    vocab_size: Annotated[int, typer.Option(help="Entries of the tokenizer.")] = 4096,
    workers: Annotated[int, typer.Option(help="Processes that make renderings.")] = 1,
    seed: int = 0,
) -> None:
    """1. Renderings, common modifiers and tokenizer."""
    import numpy as np
    import pandas as pd

    from .captions import CommonModifiers, write_caption
    from .pictures import make_renderings
    from .tokenizer import train_tokenizer

    folder = work / "data"
    if not (folder / "images.npy").exists():
        make_renderings(pictures, count, folder, subjects, seed, workers=workers)
    common = CommonModifiers.collect(keywords=keywords)
    common.save(folder / "common_modifiers.json")
    rng = np.random.default_rng(seed)
    rows = pd.read_parquet(folder / "renderings.parquet").to_dict("records")
    captions = [write_caption(row, common, rng) for row in rows]
    real = pd.read_parquet(prompts, columns=["prompt"]).prompt
    real = real.sample(min(len(captions), len(real)), random_state=seed)
    train_tokenizer([*captions, *real], vocab_size).save_pretrained(folder / "tokenizer")


@app.command()
def autoencoder(work: Work, steps: Steps = 4000, batch_size: Batch = 16, learning_rate: Rate = 2e-3,
                device: Device = "auto", threads: Threads = 1, workers: Workers = 0) -> None:  # fmt: skip
    """2. The autoencoder, then the latents of every rendering."""
    from .autoencoder import encode_all, train_autoencoder

    torch.set_num_threads(threads)
    config = LoopConfig(steps, batch_size, learning_rate, cooldown=0.3, ema=0.998, workers=workers)
    train_autoencoder(work / "data", work / "autoencoder", config, device)
    _say({"scaling_factor": encode_all(work / "data", work / "autoencoder", work / "data" / "latents.npy", device)})


@app.command()
def warm_up(work: Work, steps: Steps = 2500, batch_size: Batch = 128, learning_rate: Rate = 1e-3,
            device: Device = "auto", threads: Threads = 1, workers: Workers = 0) -> None:  # fmt: skip
    """3. A contrastive training of text encoder and image tower, for the diffusion model to begin from."""
    from .clip import Renderings, retrieval, train_clip

    torch.set_num_threads(threads)
    config = LoopConfig(
        steps, batch_size, learning_rate, warmup=50, weight_decay=0.05, ema=0.98, sheet_steps=0, workers=workers
    )
    _say(retrieval(train_clip(work / "data", work / "warm_up", config, device), Renderings(work / "data")))


@app.command()
def diffusion(work: Work, steps: Steps = 30_000, batch_size: Batch = 64, learning_rate: Rate = 1e-3,
              sheet_steps: Annotated[int, typer.Option(help="Steps between contact sheets.")] = 500,
              cooldown: Annotated[float, typer.Option(help="Share of the steps over which the rate falls to 0.")] = 0.1,
              freeze_text: Annotated[bool, typer.Option(help="Train on with the text encoder as it is.")] = False,
              device: Device = "auto", threads: Threads = 1, workers: Workers = 0) -> None:  # fmt: skip
    """4. The diffusion model with its text encoder."""
    from .diffusion import train_diffusion

    torch.set_num_threads(threads)
    config = LoopConfig(
        steps,
        batch_size,
        learning_rate,
        warmup=200,
        ema=0.9992,
        cooldown=cooldown,
        sheet_steps=sheet_steps,
        workers=workers,
    )
    train_diffusion(
        work / "data", work / "autoencoder", work / "warm_up", work / "diffusion", config, device,
        freeze_text=freeze_text,
    )  # fmt: skip


@app.command()
def clip(work: Work, steps: Steps = 1500, batch_size: Batch = 128, learning_rate: Rate = 1e-3,
         device: Device = "auto", threads: Threads = 1, workers: Workers = 0) -> None:  # fmt: skip
    """5. CLIP, on that text encoder; to be trained anew (or further) when the diffusion model has been."""
    from .clip import Renderings, retrieval, train_clip

    torch.set_num_threads(threads)
    config = LoopConfig(
        steps, batch_size, learning_rate, weight_decay=0.05, ema=0.997, cooldown=0.3, sheet_steps=250, workers=workers
    )
    model = train_clip(
        work / "data", work / "clip", config, device, warm_up=work / "warm_up", diffusion=work / "diffusion"
    )
    _say(retrieval(model, Renderings(work / "data")))


@app.command()
def pickscore(work: Work, steps: Steps = 1200, batch_size: Batch = 64, learning_rate: Rate = 2e-4,
              device: Device = "auto", threads: Threads = 1, workers: Workers = 0) -> None:  # fmt: skip
    """6. PickScore, from that CLIP."""
    from .clip import Renderings
    from .preferences import agreement, train_pickscore

    torch.set_num_threads(threads)
    config = LoopConfig(steps, batch_size, learning_rate, ema=0.995, cooldown=0.3, sheet_steps=200, workers=workers)
    model = train_pickscore(work / "data", work / "diffusion", work / "clip", work / "pickscore", config, device)
    _say(agreement(model, Renderings(work / "data")))


@app.command()
def aesthetic(work: Work, steps: Steps = 3000, batch_size: Batch = 256, learning_rate: Rate = 1e-3,
              device: Device = "auto", threads: Threads = 1) -> None:  # fmt: skip
    """7. The aesthetic head, over that CLIP's image embeddings."""
    from .preferences import train_aesthetic

    torch.set_num_threads(threads)
    config = LoopConfig(steps, batch_size, learning_rate, ema=0.995, cooldown=0.3, log_steps=500)
    _say(train_aesthetic(work / "data", work / "diffusion", work / "clip", work / "aesthetic", config, device))


_Table = Annotated[Path, typer.Option(help="The pictures' table, whose icons are composed.")]


@app.command()
def vlm_warm_up(
    work: Work,
    pictures: _Table,
    clip: Annotated[Path, typer.Option(help="The exported CLIP whose vision tower it begins with.")],
    steps: Steps = 600,
    batch_size: Batch = 96,
    learning_rate: Rate = 2e-3,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """11. The vision-language model learns to look: captions alone, with the tower as it is."""
    from .vlm import train_vlm

    torch.set_num_threads(threads)
    config = _vlm_config(steps, batch_size, learning_rate, workers, cooldown=0.0, sheet_steps=0)
    train_vlm(work / "data", pictures, clip, work / "vlm_warm_up", config, device)


@app.command()
def vlm(
    work: Work,
    pictures: _Table,
    freeze_tower: Annotated[bool, typer.Option(help="With the vision tower as it is, at a constant rate.")] = False,
    steps: Steps = 1150,
    batch_size: Batch = 64,
    learning_rate: Rate = 1.2e-3,
    device: Device = "auto",
    threads: Threads = 1,
    workers: Workers = 0,
) -> None:
    """12. The vision-language model: captions, and questions whose answer is yes or no."""
    from .vlm import train_vlm

    torch.set_num_threads(threads)
    cooldown = 0.0 if freeze_tower else 0.6
    config = _vlm_config(steps, batch_size, learning_rate, workers, cooldown=cooldown, sheet_steps=200)
    warm_up = work / "vlm_warm_up"
    train_vlm(work / "data", pictures, None, work / "vlm", config, device, warm_up, freeze_tower)


def _vlm_config(steps: int, batch_size: int, learning_rate: float, workers: int, **more) -> LoopConfig:
    # Products this small are slower in bfloat16 on CPUs that have it.
    return LoopConfig(
        steps, batch_size, learning_rate, warmup=60, weight_decay=0.05, ema=0.99, log_steps=20, workers=workers,
        bfloat16=torch.cuda.is_available(), **more,
    )  # fmt: skip


@app.command()
def export_vlm(work: Work, output: Annotated[Path, typer.Option(help="Folder for the model.")]) -> None:
    """13. A folder that `from_pretrained` loads, in fp16; prints its bytes."""
    from .vlm import export_vlm

    _say(export_vlm(work / "vlm", output))


@app.command()
def judge_vlm(
    work: Work,
    exported: Annotated[Path, typer.Option(help="Folder of the embedded models, `vlm` among them.")],
    pictures: Annotated[Path, typer.Option(help="The pictures' table.")],
    prompts: Annotated[Path, typer.Option(help="Plain prompts to draw, one a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file.")],
    number: Annotated[int, typer.Option(help="Pictures to compose of each kind, and to draw.")] = 400,
    seed: int = 0,
    threads: Threads = 1,
) -> None:
    """14. Right captions above others, answers to questions; then the card with a contact sheet."""
    from .judge_vlm import answer_sheet, judge, write_card

    torch.set_num_threads(threads)
    folder = exported / "vlm"
    figures = judge(folder, work / "data", pictures, exported / "stable-diffusion", prompts, number, seed)
    output.write_text(json.dumps(figures, indent=2) + "\n")
    answer_sheet(folder, work / "data", pictures).save(folder / "sheet.webp", quality=70, method=6)
    write_card(figures, folder, work / "vlm" / "log.jsonl")
    _say(figures)


@app.command()
def sheet(work: Work, output: Annotated[Path, typer.Option("--output", "-o", help="PNG file.")],
          seed: int = 0, zoom: int = 1, threads: Threads = 1) -> None:  # fmt: skip
    """A contact sheet of the diffusion model's last checkpoint."""
    from .clip import Renderings
    from .diffusion import Diffusion, assemble, contact_sheet
    from .loop import load_averaged

    torch.set_num_threads(threads)
    model = load_averaged(Diffusion(Renderings(work / "data").tokenizer), work / "diffusion")
    contact_sheet(assemble(model, work / "data", work / "autoencoder"), seed=seed, zoom=zoom).save(output)


@app.command()
def export(work: Work, output: Annotated[Path, typer.Option(help="Folder for the models' folders.")]) -> None:
    """8. Folders that `from_pretrained` loads, in fp16; prints the bytes of each."""
    from .export import export

    sizes = export(work, output)
    _say({**sizes, "all": sum(sizes.values())})


@app.command()
def restore(work: Work, exported: Annotated[Path, typer.Option(help="What `export` wrote.")]) -> None:
    """Checkpoints from exported models, after `data`: to train on from where they are."""
    from .autoencoder import encode_all
    from .export import restore

    factor = restore(exported, work)
    encode_all(work / "data", work / "autoencoder", work / "data" / "latents.npy", factor=factor)


@app.command()
def evaluate(
    work: Work,
    exported: Annotated[Path, typer.Option(help="What `export` wrote.")],
    pictures: Annotated[Path, typer.Option(help="The pictures' table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file.")],
    subjects: Annotated[int, typer.Option(help="Subjects to draw for each figure.")] = 200,
    seeds: Annotated[int, typer.Option(help="Pictures of each prompt that rewards are means of.")] = 4,
    seed: int = 0,
    threads: Threads = 1,
) -> None:
    """9. Accuracy of subject and style, retrieval, preference agreement, reward sanity."""
    from .evaluate import evaluate

    torch.set_num_threads(threads)
    figures = evaluate(exported, work / "data", pictures, subjects, seeds, seed)
    output.write_text(json.dumps(figures, indent=2) + "\n")
    _say(figures)


@app.command()
def card(
    work: Work,
    exported: Annotated[Path, typer.Option(help="What `export` wrote: the cards go there.")],
    figures: Annotated[Path, typer.Option(help="What `evaluate` wrote.")],
    seed: int = 0,
    threads: Threads = 1,
) -> None:
    """10. The models' cards, with a contact sheet."""
    from diffusers import StableDiffusionPipeline

    from .card import write_cards
    from .diffusion import contact_sheet
    from .pictures import read_subjects

    torch.set_num_threads(threads)
    pipeline = StableDiffusionPipeline.from_pretrained(exported / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    contact_sheet(pipeline, seed=seed).save(exported / "stable-diffusion" / "sheet.webp", quality=85, method=6)
    measured = json.loads(figures.read_text())
    write_cards(measured, work / "diffusion" / "log.jsonl", len(read_subjects()), exported, "sheet.webp")


if __name__ == "__main__":
    app()

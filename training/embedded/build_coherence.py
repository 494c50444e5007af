#!/usr/bin/env python
"""How the facts of `neuroprompt/coherence.py` were learnt: candidates to read, and the words that prompts are made of.

    python -m training.embedded.build_coherence media --prompts prompts.parquet
    python -m training.embedded.build_coherence traits --prompts prompts.parquet
    python -m training.embedded.build_coherence groups --prompts prompts.parquet
    python -m training.embedded.build_coherence words --prompts prompts.parquet --dictionary american-english-large \
        --dictionary british-english --output neuroprompt/modifiers/words.tsv
    python -m training.embedded.build_coherence fit --prompts prompts.parquet \
        --output neuroprompt/modifiers/fit.safetensors

The first three print what users combine, and what they do not: for every medium the modifiers that stand beside it
more (`media`) or less (`traits`) often than chance would have it, and the modifiers that say the same (`groups`): those
of one form but for intensifiers, and those that stand beside the same others while they seldom stand together. The
tables `media.tsv`, `traits.tsv` and `groups.tsv` were written by hand from these lists; `words` and `fit` write theirs.
(SCOWL's word lists, `wamerican-large` and `wbritish` of Debian, are in the public domain.) Two to ten minutes each on
one core for 1.1 million prompts.
"""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.progress import track
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

from neuroprompt.artists import historical
from neuroprompt.coherence import MEDIA, concepts, group_of, medium_of
from neuroprompt.fit import kinds_of
from neuroprompt.modifiers import CATEGORIES, categorise, spelling_key, vocabulary
from neuroprompt.prompts import Prompt

MIN_MODIFIER = 200  # prompts that hold a modifier, for it to be a candidate
MIN_WORD, MIN_TERM, MIN_NAME = 20, 50, 200  # prompts that hold a word of a dictionary, of the modifiers, or another
MIN_FIT_WORD, MIN_KIND = 60, 1000  # prompts that hold a word before their modifiers, or a kind of these
PRIOR = 0.6  # standard deviation of a word's weight, in nats

# Words of the modifiers' vocabularies, which take in what users write, that are misspelt or names.
MISSPELT = frozenset(
    """
    barroque beatiful cinematics colorfull coriolios craiglist cyperpunk danube dau david devaintart deviantarthq
    digitial digtial dlsr drammatic dramtic durty eddotorial etkar fellini fernando filmstill flourescent
    forboding hasselbrad hiroaki hiroyuki hitchcock horroristic hyperalism hyperealism incoherents iridiscent
    jacky judy jungwirth kindergartener klaus kunst majestical mandalorian manierism mario martha mattepainting
    mistic morandi morris morty murata nirasawa noveau oill outworldly overdetailed pastell paris pinteresst pivix
    pointilism portait proffesional pxiv quito rasquache ratatouille romantisism romantism ryuta samikshavad san
    silva skeumorphism sumatraism surealism symobolism tack takahashi takano tele trippy-art tsai tsutsumi ueda
    unrealengine verdadism vibrante vincenzo vivide volumentric volumettic volummetric volymetric vouge weasyl
    wisniewski yasushi abstarct artstion cinamatic cinemtic asthetic cgssociety
    """.split()
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Prompts = Annotated[Path, typer.Option(help="A Parquet file of prompts, in the column `prompt`.")]
Top = Annotated[int, typer.Option(help="Modifiers to print for each medium.")]


@app.command()
def media(prompts: Prompts, top: Top = 40) -> None:
    """Print for each medium the modifiers that stand beside it more often than chance would have it."""
    print_lift(prompts, top, more=True)


@app.command()
def traits(prompts: Prompts, top: Top = 40) -> None:
    """Print for each medium frequent modifiers that stand beside it less often than chance would have it."""
    print_lift(prompts, top, more=False)


@app.command()
def groups(prompts: Prompts, top: Annotated[int, typer.Option(help="Modifiers to look at.")] = 1500) -> None:
    """Print modifiers that may say the same as another one and have no group yet, with that one."""
    texts = [modifiers(text) for text in read_prompts(prompts)]
    counts = Counter(key for keys in texts for key in keys)
    chosen = [key for key, _ in counts.most_common(top)]
    number = {key: i for i, key in enumerate(chosen)}
    together = np.zeros((top, top), np.float32)
    for keys in track(texts, "counting pairs"):
        known = [number[key] for key in keys if key in number]
        for i in known:
            together[i, known] += 1
    alone = together.diagonal().copy()
    np.fill_diagonal(together, 0)
    lift = np.log(np.maximum(together * len(texts), 1) / np.maximum(np.outer(alone, alone), 1))
    context = np.maximum(lift, 0)
    context /= np.maximum(np.linalg.norm(context, axis=1, keepdims=True), 1e-9)
    similar = context @ context.T
    np.fill_diagonal(similar, 0)
    for i, key in enumerate(chosen):
        if group_of(key) is None and categorise(key) not in (None, "artist"):
            near = [f"{chosen[j]} ({group_of(chosen[j])}, {similar[i, j]:.2f})" for j in np.argsort(-similar[i])[:4]]
            print(f"{counts[key]:>7,} {key}: {'; '.join(near)}")


@app.command()
def words(
    prompts: Prompts,
    dictionary: Annotated[list[Path], typer.Option(help="Lists of English words, one a line.")],
    output: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Write the words that prompts are made of, each with what it is: of a dictionary, of the modifiers, or a name."""
    counts: Counter[str] = Counter()
    texts = read_prompts(prompts)
    for text in track(texts, "counting words"):
        counts.update(set(spelling_key(text).split()))
    listed = {w for path in dictionary for w in path.read_text("utf-8").split() if w == w.lower() and len(w) > 1}
    english = {spelling_key(w) for w in listed} | {"a", "i"}
    terms = {w for c in CATEGORIES if c != "artist" for term in vocabulary(c) for w in spelling_key(term).split()}
    kinds = {word: "name" for word, n in counts.items() if n >= MIN_NAME and word.isalpha() and len(word) > 1}
    kinds |= {word: "name" for name in historical() for word in name.split() if word.isalpha()}
    kinds |= {w: "modifier" for w in terms - MISSPELT if counts[w] >= MIN_TERM and len(w) > 1 and not w.isdigit()}
    kinds |= {word: "dictionary" for word, n in counts.items() if n >= MIN_WORD and word in english}
    header = f"""\
# {len(kinds):,} words that prompts are made of; made by training/embedded/build_coherence.py.
# Columns, by tabs: the word; what it is. Of {len(texts):,} prompts of the Stable Diffusion beta (as DiffusionDB has
# them, CC0 1.0), {MIN_WORD} or more hold a word of the dictionary (SCOWL, public domain), {MIN_TERM} or more one of the
# modifiers' vocabularies, {MIN_NAME} or more any other, called a name.
"""
    output.write_text(header + "".join(f"{w}\t{kind}\n" for w, kind in sorted(kinds.items())), encoding="utf-8")
    print(Counter(kinds.values()))


@app.command()
def fit(
    prompts: Prompts,
    output: Annotated[Path, typer.Option(help="The file to write.")],
    passes: Annotated[int, typer.Option(help="Over the prompts.")] = 4,
) -> None:
    """Write the models of `neuroprompt/fit.py`: what modifiers are about, by the words of the prompts before them."""
    import torch

    heads, tails = [], []
    for text in track(read_prompts(prompts), "reading"):
        first, *rest = Prompt.parse(text).segments or [""]
        kinds = frozenset().union(*map(kinds_of, rest))
        if kinds:
            heads.append(frozenset(spelling_key(first).split()))
            tails.append(kinds)
    words, rows = _matrix(heads, MIN_FIT_WORD)
    kinds, targets = _matrix(tails, MIN_KIND)
    rate = np.asarray(targets.mean(0)).ravel()
    weights = torch.zeros(len(words), len(kinds), requires_grad=True)
    bias = torch.tensor(np.log(rate / (1 - rate)), dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=0.03)
    random = np.random.default_rng(0)
    held_out, learnt = np.split(random.permutation(len(heads)), [len(heads) // 50])

    def loss(chosen: np.ndarray) -> torch.Tensor:
        read = rows[chosen]
        found, starts = (torch.from_numpy(part.astype(np.int64)) for part in (read.indices, read.indptr[:-1]))
        logits = torch.nn.functional.embedding_bag(found, weights, starts, mode="sum") + bias
        wanted = torch.from_numpy(targets[chosen].toarray())
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(chosen)

    batches = [
        part for _ in range(passes) for part in np.array_split(random.permutation(learnt), len(learnt) // 8192 + 1)
    ]
    with torch.no_grad():
        before = loss(held_out).item()
    for step, chosen in enumerate(track(batches, "learning")):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / len(batches))
        optimizer.zero_grad()
        prior = weights.square().sum() / (2 * PRIOR**2 * len(learnt))
        (loss(chosen) + prior).backward()
        optimizer.step()
    with torch.no_grad():
        print(f"{len(heads):,} prompts, {len(words):,} words, {len(kinds):,} kinds; held-out nats a prompt: "
              f"{before:.2f} without the prompt, {loss(held_out).item():.2f} with it")  # fmt: skip
    learnt_weights = weights.detach().numpy()
    scale = np.abs(learnt_weights).max(0) / 127
    tensors = {
        "weights": np.rint(learnt_weights / scale).astype(np.int8),
        "scale": scale.astype(np.float32),
        "bias": bias.detach().numpy(),
        "log_rate": np.log(rate).astype(np.float32),
    }
    save_file(tensors, output, metadata={"words": json.dumps(words), "kinds": json.dumps(kinds)})


def _matrix(sets: list[frozenset[str]], least: int) -> tuple[list[str], csr_matrix]:
    """The names that so many sets hold, and which set holds which."""
    counts = Counter(name for names in sets for name in names)
    names = sorted(name for name, count in counts.items() if count >= least)
    number = {name: i for i, name in enumerate(names)}
    held = [[number[name] for name in members if name in number] for members in sets]
    lengths = np.cumsum([0, *map(len, held)])
    columns = np.fromiter((i for row in held for i in row), np.int64)
    ones = np.ones(len(columns), np.float32)
    return names, csr_matrix((ones, columns, lengths), shape=(len(sets), len(names)))


def print_lift(path: Path, top: int, more: bool) -> None:
    beside: dict[str, Counter[str]] = defaultdict(Counter)
    counts: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    total = 0
    for text in track(read_prompts(path), "reading"):
        keys = modifiers(text)
        counts.update(keys)
        total += 1
        for medium in medium_of(text):
            prompts[medium] += 1
            beside[medium].update(keys)
    for medium in (name for name, concept in concepts().items() if concept.family in MEDIA):
        rows = []
        for key, n in counts.items():
            expected = n * prompts[medium] / total
            if n >= MIN_MODIFIER and (beside[medium][key] >= 5 or (not more and expected >= 20)):
                rows.append((math.log((beside[medium][key] + 1) / (expected + 1)), key))
        rows.sort(reverse=more)
        print(f"\n{medium} ({prompts[medium]:,}): " + "; ".join(f"{key} {lift:+.1f}" for lift, key in rows[:top]))


def modifiers(text: str) -> set[str]:
    """The clauses after the first, normalised."""
    return {spelling_key(segment) for segment in Prompt.parse(text).modifiers if len(segment) <= 50}


def read_prompts(path: Path) -> list[str]:
    return pq.read_table(path, columns=["prompt"]).column("prompt").to_pylist()


if __name__ == "__main__":
    app()

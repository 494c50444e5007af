#!/usr/bin/env python
"""How the facts of `neuroprompt/coherence.py` were learnt: candidates to read, and the words that prompts are made of.

    python -m training.embedded.build_coherence media --prompts prompts.parquet
    python -m training.embedded.build_coherence traits --prompts prompts.parquet
    python -m training.embedded.build_coherence groups --prompts prompts.parquet
    python -m training.embedded.build_coherence words --prompts prompts.parquet --dictionary american-english-large \
        --dictionary british-english --output neuroprompt/modifiers/words.tsv

The first three print what users combine, and what they do not: for every medium the modifiers that stand beside it
more (`media`) or less (`traits`) often than chance would have it, and the modifiers that say the same (`groups`): those
of one form but for intensifiers, and those that stand beside the same others while they seldom stand together. The
tables `media.tsv`, `traits.tsv` and `groups.tsv` were written by hand from these lists; `words` writes its file.
(SCOWL's word lists, `wamerican-large` and `wbritish` of Debian, are in the public domain.) Two to ten minutes each on
one core for 1.1 million prompts.
"""

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.progress import track

from neuroprompt.artists import historical
from neuroprompt.coherence import MEDIA, concepts, group_of, medium_of
from neuroprompt.modifiers import CATEGORIES, categorise, spelling_key, vocabulary
from neuroprompt.prompts import Prompt

MIN_MODIFIER = 200  # prompts that hold a modifier, for it to be a candidate
MIN_WORD, MIN_TERM, MIN_NAME = 20, 50, 200  # prompts that hold a word of a dictionary, of the modifiers, or another

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

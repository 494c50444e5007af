"""The reading: what the policy makes of 100 prompts of every kind, and of 40 with constraints, read one by one.

    python -m training.embedded.reading

Three rewrites of each prompt go to `results/reading.tsv`, one a line; whoever reads them writes a verdict into the
first column and a few words into the second, and gives the command again. It keeps the verdicts, counts them, and
writes docs/rewrites.md. A verdict belongs to the very text that was read: where the policy writes another one now, it
is stale, and says so until the new text is read.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from neuroprompt.cli.options import Device, Model, load_policy
from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.files import write_file
from neuroprompt.pages.tables import Table, markdown_text
from neuroprompt.programs import quiet_libraries, run
from neuroprompt.terminal import counted, visible

ROOT = Path(__file__).parents[2]
QUESTIONS = {
    "Without constraints": ROOT / "configs" / "reading" / "prompts.jsonl",
    "With constraints": ROOT / "configs" / "reading" / "constrained.jsonl",
}
SEEDS = (3, 4, 5)  # others were read while the judge was made
RUBRIC = {
    "good": "fits this prompt, adds something that the picture could show, and reads as if somebody meant it",
    "bland": "nothing is wrong, and it would stand as well behind any other prompt",
    "contradicts": "does not go with the subject, the medium or the mood that was asked for, or with itself",
    "repeats": "says one thing twice, or what the prompt has said",
    "garbage": "a broken word, half a modifier, words without sense there, a phrase forced into another",
}
STALE = "stale"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Question(NamedTuple):
    """A prompt to rewrite: its kind, and its constraints as JSON ("" for none)."""

    kind: str
    prompt: str
    constraints: str = ""


class Reading(NamedTuple):
    """A rewrite and what its reader says: a line of the table of verdicts. No verdict: it is to be read.

    Control characters stand as `terminal.visible` writes them: a tab or a line break would be the table's.
    """

    verdict: str
    why: str
    seed: int
    prompt: str
    constraints: str
    added: str


@app.command()
def main(
    model: Model = "embedded",
    verdicts: Annotated[Path, typer.Option(help="The table of rewrites and verdicts.")] = ROOT / "results/reading.tsv",
    document: Annotated[Path, typer.Option(help="The document that is made of it.")] = ROOT / "docs/rewrites.md",
    device: Device = None,
) -> None:
    """Rewrite the prompts of the reading, keep the verdicts on what has not changed, and write the document."""
    known = read_verdicts(verdicts) if verdicts.exists() else []
    questions = {part: read_questions(path) for part, path in QUESTIONS.items()}
    quiet_libraries()
    enhancer = load_policy(model, device)
    readings = renew([q for part in questions.values() for q in part], known, enhancer)
    write_file(verdicts, as_table(readings).encode())
    write_file(document, as_document(questions, readings, model).encode())
    found = Counter(reading.verdict or "to be read" for reading in readings)
    typer.echo(f"{document}: {', '.join(f'{number} {verdict}' for verdict, number in found.most_common())}")


def read_questions(path: Path) -> list[Question]:
    """The prompts of a .jsonl file of objects with `kind`, `prompt` and perhaps `constraints` (arguments of
    `Constraints`)."""
    entries = map(json.loads, path.read_text("utf-8").splitlines())
    return [
        Question(e["kind"], e["prompt"], json.dumps(e["constraints"], ensure_ascii=False) if "constraints" in e else "")
        for e in entries
    ]


def read_verdicts(path: Path) -> list[Reading]:
    """The table of verdicts.

    Raises:
        ValueError: A line is none of it, or has a verdict that there is not.
    """
    readings = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        cells = line.split("\t")
        if cells == list(Reading._fields):
            continue
        if len(cells) != len(Reading._fields) or not cells[2].isdecimal():
            raise ValueError(f"{path}, line {number}: not {', '.join(Reading._fields)}, by tabs: {line}")
        verdict, why, seed, *texts = cells
        if verdict not in ("", STALE, *RUBRIC):
            raise ValueError(f"{path}, line {number}: no verdict {verdict!r}: choose from {', '.join(RUBRIC)}")
        readings.append(Reading(verdict, why, int(seed), *texts))
    return readings


def renew(questions: Sequence[Question], known: Sequence[Reading], enhancer: PromptEnhancer) -> list[Reading]:
    """The rewrites as the policy writes them now, with the verdicts on those that it wrote before."""
    wishes = [Constraints(**json.loads(q.constraints)) if q.constraints else None for q in questions]
    made = {seed: enhancer([q.prompt for q in questions], wishes, seed=seed) for seed in SEEDS}
    before = {(r.prompt, r.constraints, r.seed): r for r in known}
    readings = []
    for i, question in enumerate(questions):
        for seed in SEEDS:
            added = visible(made[seed][i].text[len(question.prompt) :])
            reading = before.get(
                (question.prompt, question.constraints, seed), Reading("", "", seed, *question[1:], "")
            )
            if reading.added != added and reading.verdict not in ("", STALE):
                reading = reading._replace(verdict=STALE, why=f"another text was {reading.verdict}")
            readings.append(reading._replace(added=added))
    return readings


def as_table(readings: Sequence[Reading]) -> str:
    """The table of verdicts, as `read_verdicts` reads it."""
    return "".join("\t".join(map(str, row)) + "\n" for row in (Reading._fields, *readings))


def as_document(questions: dict[str, Sequence[Question]], readings: Sequence[Reading], model: str) -> str:
    """The document: the rubric, the counts, and every rewrite with its verdict."""
    of_question: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        of_question.setdefault((reading.prompt, reading.constraints), []).append(reading)
    rubric = [f"- **{verdict}**: {meaning}." for verdict, meaning in RUBRIC.items()]
    parts = [_HEAD.format(model=model, seeds=len(SEEDS), rubric="\n".join(rubric))]
    for part, asked in questions.items():
        kinds: dict[str, list[Question]] = {}
        for question in asked:
            kinds.setdefault(question.kind, []).append(question)
        read = {kind: [r for q in own for r in of_question[q[1:]]] for kind, own in kinds.items()}
        parts += [f"## {part}", _counts(part, len(asked), read).markdown()]
        for kind, own in kinds.items():
            parts.append(f"### {kind.capitalize()}")
            parts += ["\n".join([_asked(q), "", *map(_line, of_question[q[1:]])]) for q in own]
    return "\n\n".join(parts) + "\n"


# --- details -----------------------------------------------------------------------------------------------------

_HEAD = """# Rewrites, read one by one

What `neuroprompt enhance` makes of prompts as people type them ({model}; {seeds} seeds each), and a reader's verdict on
every rewrite. None of the prompts stands in what the policy has learnt from. The verdicts:

{rubric}

Two readers judged apart from each other, and a rewrite is good where both say so. When in doubt, it is not good; of
several faults the worst is named, which stands further down in the list. To add nothing is good where nothing can be
added with sense. A verdict is *stale* where the policy writes another text now than the one that was read.

```
python -m training.embedded.reading      # renews results/reading.tsv, where verdicts are written, and this document
```"""


def _counts(part: str, prompts: int, read: dict[str, list[Reading]]) -> Table:
    verdicts = [*RUBRIC, STALE, ""]

    def row(name: str, readings: Sequence[Reading]) -> list[str]:
        counts = Counter(reading.verdict for reading in readings)
        return [name, *(str(counts[verdict] or "") for verdict in verdicts)]

    everything = [reading for own in read.values() for reading in own]
    rows = [row("all", everything), *(row(kind, own) for kind, own in read.items())]
    note = f"{counted(prompts, 'prompt')}, {counted(len(everything), 'rewrite')}:"
    return Table(part, note, ["", *RUBRIC, STALE, "to be read"], rows)


def _asked(question: Question) -> str:
    wish = json.loads(question.constraints) if question.constraints else {}
    asked = [
        f"{name} {markdown_text(', '.join([phrases] if isinstance(phrases, str) else phrases))}"
        for name, phrases in wish.items()
    ]
    return f"**{markdown_text(question.prompt)}**" + f" ({'; '.join(asked)})" * bool(asked)


def _line(reading: Reading) -> str:
    verdict = reading.verdict if reading.verdict == "good" else f"**{reading.verdict or 'to be read'}**"
    why = f" ({markdown_text(reading.why)})" if reading.why else ""
    return f"- {verdict}{why}: {f'…{markdown_text(reading.added)}' if reading.added else 'nothing is added'}"


if __name__ == "__main__":
    run(app)

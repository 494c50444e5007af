"""`neuroprompt votes export`: what people preferred, as data to learn from."""

import csv
import io
from pathlib import Path

import typer

from neuroprompt.cli.app import app, argument, command, option
from neuroprompt.cli.options import check_file
from neuroprompt.terminal import counted, say

votes = typer.Typer(help="Blind votes on rewrites, which `neuroprompt serve --votes FILE` takes.", no_args_is_help=True)
app.add_typer(votes, name="votes")


@command(
    "neuroprompt votes export votes.sqlite -o preferences.jsonl",
    "neuroprompt votes export votes.sqlite -o preferences.csv --ties",
    extras=["serve"],
    within=votes,
)
def export(
    *,
    file: str = argument(..., "The file of votes; its servers may go on."),
    output: str = option(..., "A .jsonl file, for a trainer, or a .csv file, for a spreadsheet.", "-o"),
    ties: bool = option(False, "Write ties, too: their `tie` is true, and the rewrite stands as chosen.", "--ties"),
) -> None:
    """Write preferences, as TRL's trainers read them: prompt, chosen, rejected, and how each came about.

    What was chosen is what stands behind the prompt: the rewrite's modifiers, or nothing. And say how the rewrites did.
    """
    from neuroprompt.files import refuse_same_file, write_file
    from neuroprompt.pages.tables import csv_text
    from neuroprompt.prompt_files import json_line
    from neuroprompt.server.votes import preferences, read_votes, win_rate

    check_file(output, (".jsonl", ".csv"))
    refuse_same_file(file, output)
    found = list(read_votes(file))
    if not found:
        raise ValueError(f"{file} holds no votes")
    records = list(preferences(found, ties))
    if not records:
        raise ValueError(f"{file} holds nothing but {counted(len(found), 'tie')}: add --ties to have them")
    if Path(output).suffix.lower() == ".jsonl":
        text = "".join(map(json_line, records))
    else:
        table = io.StringIO(newline="")
        rows = csv.DictWriter(table, list(records[0]), lineterminator="\n")
        rows.writeheader()
        for record in records:
            rows.writerow({name: csv_text(cell) if isinstance(cell, str) else cell for name, cell in record.items()})
        text = table.getvalue()
    write_file(output, text.encode())
    if left := len(found) - len(records):
        say(f"{counted(left, 'tie')} left out: --ties keeps them")
    share, prompts = win_rate(found), len({vote.duel.prompt for vote in found})
    within = "" if share.low is None else f" [{share.low:.1%}, {share.high:.1%}]"
    of = f"{counted(len(found), 'vote')} on {counted(prompts, 'prompt')}"
    say(f"the rewrite has {share.mean:.1%}{within} of {of}, a tie being half of one")

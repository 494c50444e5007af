"""The dress rehearsal: whatever configs and documents tell a user to run, run here, on tiny models under real names.

    python scripts/rehearse.py                       # all of it, in an environment of what `pip install .` brings
    python scripts/rehearse.py --only ppo            # the steps with "ppo" in their names, and those before them
    python scripts/rehearse.py --work rehearsal      # keep the folder: logs, policies, tables

A model hub on this machine serves random checkpoints in the layouts of the real ones; nothing else is reached.
"""

from pathlib import Path
from typing import Annotated

import typer


def main(
    only: Annotated[str, typer.Option(help="Run the steps with this in their names, and what they need.")] = "",
    work: Annotated[
        Path | None, typer.Option(help="Folder to run in, which is kept; by default a temporary one.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time.")] = 2,
    here: Annotated[bool, typer.Option("--here", help="Run in this environment, not in a fresh one.")] = False,
    table: Annotated[
        Path | None, typer.Option(help="File for the table, as Markdown; in docs/gpu.md it gets its place.")
    ] = None,
) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.rehearsal import rehearse

    raise typer.Exit(rehearse(only=only, work=work, jobs=jobs, here=here, table=table))


if __name__ == "__main__":
    typer.run(main)

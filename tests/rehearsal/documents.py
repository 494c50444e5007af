"""The commands that README and documents tell a user to run."""

import re
import shlex

from tests.rehearsal.environment import ROOT

PROGRAMS = ("neuroprompt", "python", "accelerate", "torchrun", "make", "pip")


def documented_commands() -> dict[str, list[str]]:
    """Every command in a code block of README.md, docs/ and the documents in training/, in the form that `normal`
    gives it, and the documents that it stands in."""
    found: dict[str, list[str]] = {}
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("training/**/*.md"))]:
        for command in commands(path.read_text("utf-8")):
            places = found.setdefault(command, [])
            if (place := path.relative_to(ROOT).as_posix()) not in places:
                places.append(place)
    return found


def documented_reward() -> str:
    """The file of a user's own reward in docs/rewards.md."""
    return re.search(
        r"^```python\n(# my_file\.py\n.*?)^```", (ROOT / "docs/rewards.md").read_text("utf-8"), re.S | re.M
    )[1]


def commands(markdown: str) -> list[str]:
    """The commands in the code blocks of a text, continued lines joined."""
    lines = []
    for block in re.findall(r"^```\w*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        lines += block.replace("\\\n", " ").splitlines()
    lines = [line.strip().removeprefix("$ ").strip() for line in lines]
    return [normal(line) for line in lines if line.startswith(tuple(f"{p} " for p in PROGRAMS))]


def normal(command: str) -> str:
    """A command without its comment, spaced and quoted in one way."""
    return shlex.join(shlex.split(command, comments=True))

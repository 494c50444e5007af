"""An installation without extras rewrites prompts, and says of all else what to install."""

import runpy
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neuroprompt.extras import PACKAGES, MissingExtra, explained, need

ROOT = Path(__file__).parents[1]

WITHOUT = """
import sys
from neuroprompt.extras import PACKAGES
sys.modules.update(dict.fromkeys(package for packages in PACKAGES.values() for package in packages))
from neuroprompt.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["neuroprompt", *eval(line)]
    try:
        main()
    except SystemExit as end:
        print(end.code, "torch" in sys.modules, file=sys.stderr)
"""
COMMANDS = (
    (["image", "a cat", "-o", "a.png"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["score", "a.png"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["grid", "a cat", "-o", "a.png"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["evaluate", "-i", "a.txt", "-o", "results"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["optimize", "a cat"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["study", "-i", "a.txt", "-o", "results"], 'diffusers is not installed: pip install "neuroprompt[images]"'),
    (["mcp"], 'mcp is not installed: pip install "neuroprompt[mcp]"'),
    (["serve"], 'diffusers is not installed: pip install "neuroprompt[images,serve]"'),
    (
        ["serve", "--generator", "none", "--rewards", "none"],
        'fastapi is not installed: pip install "neuroprompt[serve]"',
    ),
)


def test_without_extras_prompts_are_rewritten_and_all_else_says_what_it_wants(tmp_path):
    """One process for all: each message is a line, no file is left, and nothing of it wants torch."""
    lines = [repr(arguments) for arguments, _ in COMMANDS] + [repr(["enhance", "boy on a horse"])]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True
    )
    *said, enhanced = done.stderr.splitlines()
    assert said == [line for _, message in COMMANDS for line in (f"error: {message}", "2 False")], done.stderr
    assert enhanced == "0 False" and done.stdout.startswith("boy on a horse, ")
    assert not list(tmp_path.iterdir())


distributions = cache(packages_distributions)


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_brings_what_the_code_imports_of_it(extra):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    brought, todo = set(), [extra]
    while todo:
        for requirement in map(Requirement, extras[todo.pop()]):
            todo += requirement.extras if requirement.name == "neuroprompt" else []
            brought.add(canonicalize_name(requirement.name))
    known = distributions()
    for package in PACKAGES[extra]:
        if package in known:  # of what is not installed nobody knows
            assert brought & {canonicalize_name(name) for name in known[package]}, package


@pytest.mark.parametrize(
    "script",
    [
        "training/sft.py",
        "training/ppo.py",
        "training/grpo.py",
        "training/distil.py",
        "scripts/prepare_data.py",
        "scripts/fitting_data.py",
    ],
)
def test_a_script_that_learns_says_what_it_wants(script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err == 'error: datasets is not installed: pip install "neuroprompt[train]"\n'


def test_what_is_missing_of_several_extras_is_said_at_once(monkeypatch):
    need(*PACKAGES)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setitem(sys.modules, "trl", None)
    need("images")
    with pytest.raises(MissingExtra, match=r'^trl is not installed: pip install "neuroprompt\[train,serve\]"$'):
        need("images", "train", "serve")


def test_a_package_that_is_imported_and_missing_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match=r'^open_clip is not installed: pip install "neuroprompt\[images\]"$'):
        with explained():
            import open_clip.constants  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="nothing"):  # a fault of ours stays one
        with explained():
            import neuroprompt.nothing  # noqa: F401


def test_a_package_that_imports_on_first_use_explains_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "drawer").mkdir()
    for name, code in (
        (
            "__init__.py",
            "from neuroprompt.extras import attach_stub\n__getattr__, *_ = attach_stub(__name__, __file__)",
        ),
        ("__init__.pyi", "from .pens import Pen"),
        ("pens.py", "import diffusers\nclass Pen: ..."),
    ):
        (tmp_path / "drawer" / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r'pip install "neuroprompt\[images\]"'):
        from drawer import Pen  # noqa: F401

"""An environment that has what ``pip install .[extras]`` brings and nothing else, made of what is installed here.

The package is built as a wheel, as a user's pip builds it. What it requires is found by following the requirements of
the installed distributions, and linked, not copied: seconds and no download in the place of minutes and gigabytes.
"""

import shutil
import subprocess
import sys
import venv
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def make_environment(folder: Path, extras: Iterable[str]) -> tuple[Path, list[str]]:
    """Make a virtual environment of the package and what it requires.

    Args:
        folder: Where to; made anew.
        extras: Of the package.

    Returns:
        Its Python, and the requirements of these extras that are not installed here and so are missing there.

    Raises:
        subprocess.CalledProcessError: The wheel cannot be built; pip has said why.
    """
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    wheel = build_wheel(folder)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(packages)
    own = Distribution.at(next(packages.glob("neuroprompt-*.dist-info")))
    required, missing = _closure(own, set(extras))
    _link(required, packages)
    for one in [own, *required]:
        _write_scripts(one, python)
    return python, missing


def build_wheel(folder: Path) -> Path:
    """Build the package's wheel in a folder, with the setuptools that is installed here; no network.

    Raises:
        subprocess.CalledProcessError: It cannot be built; pip has said why.
    """
    # Of a copy, since setuptools leaves its build folder in the source.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "neuroprompt", source / "neuroprompt", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
    )
    shutil.rmtree(source)
    return next(folder.glob("*.whl"))


def _closure(own: Distribution, extras: set[str]) -> tuple[list[Distribution], list[str]]:
    """The distributions that `own` requires with these extras, directly or not; and what of it is not installed."""
    found: dict[str, Distribution] = {}
    done: dict[str, set[str]] = defaultdict(set)
    missing: list[str] = []
    todo = [(own, extra) for extra in {"", *extras}]
    while todo:
        one, extra = todo.pop()
        for line in one.requires or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(requirement.name)
            if name == "neuroprompt":
                todo += [(own, e) for e in requirement.extras]
                continue
            try:
                found.setdefault(name, distribution(requirement.name))
            except PackageNotFoundError:
                missing.append(str(requirement))
                continue
            for wanted in {"", *requirement.extras} - done[name]:
                done[name].add(wanted)
                todo.append((found[name], wanted))
    return list(found.values()), sorted(set(missing))


def _link(required: list[Distribution], packages: Path) -> None:
    """Link the distributions' files: whole folders where they are all its own, file by file where others share it."""
    wanted = {canonicalize_name(one.name) for one in required}
    owners: dict[str, set[str]] = defaultdict(set)
    for one in distributions():
        for top in {file.parts[0] for file in one.files or []}:
            owners[top].add(canonicalize_name(one.name))
    for one in required:
        files = [f for f in one.files or [] if f.parts[0] != ".." and "__pycache__" not in f.parts]
        shared = {f.parts[0] for f in files if owners[f.parts[0]] - wanted}
        for top in {f.parts[0] for f in files} - shared:
            target = packages / top
            if not target.exists():
                target.symlink_to(one.locate_file(top))
        for file in (f for f in files if f.parts[0] in shared):
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(one.locate_file(file))


def _write_scripts(one: Distribution, python: Path) -> None:
    for entry in one.entry_points:
        if entry.group == "console_scripts":
            script = python.parent / entry.name
            script.write_text(
                f"#!{python}\nimport sys\nfrom {entry.module} import {entry.attr.partition('.')[0]}\n"
                f"sys.exit({entry.attr}())\n"
            )
            script.chmod(0o755)

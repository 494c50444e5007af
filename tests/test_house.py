"""What `lint-imports` (pyproject.toml) does not say of the house: a private name stays in its module."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "neuroprompt"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_imports_a_private_name_of_the_package(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "neuroprompt"):
            private = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name != "__version__"]
            assert not private, f"line {node.lineno} imports {private} of {node.module}"

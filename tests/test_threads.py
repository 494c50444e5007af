"""How threads wait is settled before torch is loaded, wherever a process of ours starts."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
COMPUTE = [
    *(f"training/{name}.py" for name in ("sft", "ppo", "grpo", "embedded/evaluate_policy")),
    *(f"scripts/{name}.py" for name in ("demo", "enhance", "compare_grid", "study")),
]


@pytest.mark.parametrize(("given", "kept"), [(None, "passive"), ("active", "active")])
def test_the_command_line_lets_threads_sleep_unless_the_user_says_how_they_wait(given, kept):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    look = "import os, sys, neuroprompt.cli; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [kept, "False"]


@pytest.mark.parametrize("path", COMPUTE)
def test_entry_points_settle_it_first(path):
    imports = [
        node
        for node in ast.parse((CHECKOUT / path).read_text("utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    light = sys.stdlib_module_names | {"typer", "rich"}
    first = next(module for module in modules if module.split(".")[0] not in light)
    assert first.startswith(("neuroprompt.threads", "neuroprompt.cli", "neuroprompt.programs"))

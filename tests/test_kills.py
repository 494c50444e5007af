"""Some of the kills of `python tests/kills.py`, which does a hundred."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.exhaustive
def test_what_was_killed_comes_to_the_same_end():
    kills = Path(__file__).with_name("kills.py")
    done = subprocess.run([sys.executable, kills, "--kills", "12"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

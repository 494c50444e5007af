"""Imported once, in the process that steps are forked from: what is slow to read, and `open_clip`'s tiny towers."""

import os
from pathlib import Path

import tests.preload  # noqa: F401
from neuroprompt.data import clean
from tests.checkpoints.published import tiny_open_clip

clean("ein Schloss")  # reads the model that tells languages
tiny_open_clip(Path(os.environ["REHEARSAL_OPEN_CLIP"]))

"""Imported once, in the process that steps are forked from: `open_clip` has the tiny towers."""

import os
from pathlib import Path

from tests.checkpoints.published import tiny_open_clip

tiny_open_clip(Path(os.environ["REHEARSAL_OPEN_CLIP"]))

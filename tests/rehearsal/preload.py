"""What every step would import: loaded once, in the process that steps are forked from."""

import os
from pathlib import Path

import accelerate  # noqa: F401
import datasets  # noqa: F401
import peft  # noqa: F401
import trl  # noqa: F401
from trl import GRPOTrainer, SFTTrainer  # noqa: F401

import neuroprompt.cli
import neuroprompt.evaluation.harness
import neuroprompt.search
import neuroprompt.training.ppo
import neuroprompt.training.sft  # noqa: F401
from tests.checkpoints.published import tiny_open_clip

tiny_open_clip(Path(os.environ["REHEARSAL_OPEN_CLIP"]))

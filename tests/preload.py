"""Imported once, in the process that programs are forked from (`tests.forks`): the libraries, ours on top of them, and
what both read on first use, since a prompt is rewritten and drawn. Of torch nothing runs that starts threads."""

# ruff: noqa: E402, F401

import gc
import os
from contextlib import suppress

gc.disable()  # what is imported stays; a fork enables it again
os.environ["OMP_NUM_THREADS"] = "1"

import accelerate.commands.launch
import datasets
import peft
import PIL.Image
import torch.distributed.run
import trl.trainer.grpo_trainer
import trl.trainer.sft_trainer

import neuroprompt.cli.commands
import neuroprompt.evaluation.harness
import neuroprompt.search
import neuroprompt.study
import neuroprompt.training.ppo
import neuroprompt.training.sft
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.images import ImageGenerator
from neuroprompt.rewards import load_rewards

with suppress(ImportError):  # which the suite does without
    import deepspeed

PIL.Image.init()  # reads all formats
PromptEnhancer.from_pretrained(device="cpu")("a cat", num_beams=1)
ImageGenerator.from_pretrained("embedded", device="cpu", steps=1)(["a cat"], [0])
load_rewards("pickscore,clip,aesthetic", model="embedded", device="cpu")

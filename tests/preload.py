"""Imported once, in the process that programs are forked from (`tests.forks`): the libraries, with the parts of them
that are loaded on first use, and ours on top of them."""

# ruff: noqa: E402, F401

import gc

gc.disable()  # what is imported stays; a fork enables it again

import accelerate.commands.launch
import datasets
import deepspeed
import diffusers.pipelines.auto_pipeline
import onnxruntime
import peft
import PIL.Image
import torch.distributed.run
import transformers.models.clip.modeling_clip
import transformers.models.gpt2.modeling_gpt2
import trl.trainer.grpo_trainer
import trl.trainer.sft_trainer

import neuroprompt.cli.commands
import neuroprompt.evaluation.harness
import neuroprompt.search
import neuroprompt.study
import neuroprompt.training.ppo
import neuroprompt.training.sft

PIL.Image.init()  # reads all formats

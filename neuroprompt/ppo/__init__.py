"""Proximal policy optimisation of a prompt policy, in which a reward is a function of texts.

`PPOTrainer` is a `transformers.Trainer`; its parts (sampling, advantages, losses, KL) are plain functions on tensors,
each usable by itself. `neuroprompt.training.ppo` is what `training/ppo.py` calls.
"""

from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.trainer import PPOTrainer
from neuroprompt.runs.trainer import TrainingStopped

__all__ = ["PPOConfig", "PPOTrainer", "TrainingStopped"]

"""neuroprompt: plain image prompts in, expert ones out."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("neuroprompt")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"

_HOMES = {
    "PromptEnhancer": "neuroprompt.enhancer",
    "EnhancedPrompt": "neuroprompt.enhancer",
    "Constraints": "neuroprompt.decoding",
    "ConstraintError": "neuroprompt.decoding",
    "check": "neuroprompt.decoding",
    "neurologic": "neuroprompt.decoding",
    "count_clip_tokens": "neuroprompt.prompts",
    "ImageGenerator": "neuroprompt.images",
    "GeneratorConfig": "neuroprompt.images",
    "load_reward": "neuroprompt.rewards",
    "load_rewards": "neuroprompt.rewards",
    "PromptReward": "neuroprompt.scoring",
    "PPOConfig": "neuroprompt.ppo",
    "PPOTrainer": "neuroprompt.ppo",
    "optimize": "neuroprompt.search",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """Imported on first use: the command line answers `--help` without loading PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'neuroprompt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

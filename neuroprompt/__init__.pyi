from .decoding import ConstraintError, Constraints, check
from .decoding.neurologic import neurologic
from .enhancer import EnhancedPrompt, PromptEnhancer
from .gate import Gate, Verdict
from .images import GeneratorConfig, ImageGenerator
from .ppo import PPOConfig, PPOTrainer
from .prompts import count_clip_tokens
from .reward_model import RewardModel
from .rewards import load_reward, load_rewards
from .scoring import PromptReward
from .search import optimize

__version__: str
__all__ = [
    "ConstraintError",
    "Constraints",
    "EnhancedPrompt",
    "Gate",
    "GeneratorConfig",
    "ImageGenerator",
    "PPOConfig",
    "PPOTrainer",
    "PromptEnhancer",
    "PromptReward",
    "RewardModel",
    "Verdict",
    "check",
    "count_clip_tokens",
    "load_reward",
    "load_rewards",
    "neurologic",
    "optimize",
]

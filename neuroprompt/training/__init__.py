"""What the scripts of `training/` do: supervised fine-tuning, PPO, and GRPO and RLOO."""

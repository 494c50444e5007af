"""What the scripts of `training/` do: SFT, PPO, GRPO and RLOO, and in `run` the course of them all."""

"""What a run of PPO leaves behind: a plain policy at its end, and checkpoints that training goes on from exactly."""

import json
from copy import deepcopy
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from neuroprompt.ppo.critic import PredictorCritic
from neuroprompt.ppo.guards import GuardedTrainer
from neuroprompt.ppo.rollouts import Rollouts
from neuroprompt.ppo.state import PPOState

STATE_FILE = "ppo_state.json"
ROLLOUTS_FILE = "rollouts.safetensors"


class PPOCheckpoints(GuardedTrainer):
    """A base for `PPOTrainer`, which keeps `ppo_state`, `rollouts` and `micro_step` here and reads them from here.

    A checkpoint holds, beside what the library puts there, adapters as they are and the critic, the state, and the
    rollouts where they are not used up.
    """

    ppo_state: PPOState
    rollouts: Rollouts | None
    critic: PredictorCritic | None
    micro_step: int  # forward and backward passes so far

    @property
    def micro_steps_per_iteration(self) -> int:
        return self.args.steps_per_iteration * self.args.gradient_accumulation_steps

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As `Trainer.train`."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"there is no checkpoint in {self.args.output_dir}")
        self.rollouts, self.micro_step = None, 0
        if resume_from_checkpoint:
            self._load_state(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the policy as a plain `transformers` folder; adapters are merged into it.

        Checkpoints (`_internal_call`) hold what training goes on with instead: adapters as they are, and the critic.
        """
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            if _internal_call:
                self.model.save(folder)
            else:
                policy = self.model.policy
                policy = deepcopy(policy).merge_and_unload() if self.model.is_peft else policy
                policy.save_pretrained(folder)
            self.processing_class.save_pretrained(folder)
            self.prompt_format.save(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_more(self, folder: Path) -> None:
        super()._save_more(folder)
        self.ppo_state.save(folder / STATE_FILE)
        if self.critic:
            self.critic.save(folder)
        if self.micro_step % self.micro_steps_per_iteration:
            self.rollouts.save(folder / ROLLOUTS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        self.model.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self.model.load(Path(self.state.best_model_checkpoint))

    def _load_state(self, checkpoint: Path) -> None:
        """Take up the KL coefficient, the rewards' moments and a half-used buffer."""
        if not (checkpoint / STATE_FILE).is_file():
            raise ValueError(f"{checkpoint} is no PPO checkpoint to go on from: it has no {STATE_FILE}")
        self.ppo_state = PPOState.load(checkpoint / STATE_FILE)
        if self.critic:
            self.critic.load(checkpoint)
        step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
        self.micro_step = step * self.args.gradient_accumulation_steps
        if (checkpoint / ROLLOUTS_FILE).is_file():
            self.rollouts = Rollouts.load(checkpoint / ROLLOUTS_FILE)
        half = self.micro_step % self.micro_steps_per_iteration
        written = sum(self.args.wrote(self.args.rollout_batch_size))
        if bool(half) != (self.rollouts is not None) or (half and len(self.rollouts) != written):
            raise ValueError(
                f"{checkpoint} was written with other settings: rollout_batch_size, plain_completions, num_ppo_epochs, "
                "the batch size, gradient accumulation and the number of processes must give the same steps per "
                "iteration"
            )

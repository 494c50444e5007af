"""What a run of PPO carries from step to step, beside weights, optimizer and rollouts."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from neuroprompt.ppo.advantages import RunningMoments


@dataclass
class PPOState:
    """What a run needs to go on exactly, beside what `Trainer` saves and the rollouts themselves; plain JSON types.

    Attributes:
        kl_coef: β as the controller has left it.
        moments: Of all rewards so far.
        skip_rest: Whether the rest of this iteration's updates is left out.
        skipped, skipped_in_a_row: Batches that were left out because something in them was not finite.
        collapsed: Whether the last rollouts were below `min_distinct_tails`.
        metrics: Sum and count of what the rollouts since the last log have measured.
    """

    kl_coef: float
    moments: RunningMoments = field(default_factory=RunningMoments)
    skip_rest: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    collapsed: bool = False
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def record(self, **metrics: float) -> None:
        for name, value in metrics.items():
            total, count = self.metrics.get(name, (0.0, 0))
            self.metrics[name] = [total + value, count + 1]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "PPOState":
        values = json.loads(path.read_text())
        return cls(**values | {"moments": RunningMoments(**values["moments"])})

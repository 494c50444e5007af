"""The same optimizer steps on any number of processes: sizes are said over all of them, and shared out."""

from dataclasses import dataclass

from accelerate.utils import get_int_from_env


def processes() -> int:
    """How many processes were launched, by torchrun, accelerate or MPI; known before they meet."""
    return get_int_from_env(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"], 1)


@dataclass
class GlobalBatch:
    """A base for a `TrainingArguments`, before it: the same optimizer steps on any number of processes.

    Args:
        minibatch_size: How many rows an optimizer step has, over all processes. Each process computes its share of
            them, `per_device_train_batch_size` at once at most, and gradients are accumulated as that demands: both
            follow. By default it is what is set there, times the number of processes, as in any `Trainer`.

    Attributes:
        rows_at_once: The `per_device_train_batch_size` that was asked for.

    Raises:
        ValueError: So many processes cannot share a minibatch equally.
    """

    minibatch_size: int | None = None

    def __post_init__(self):
        self.rows_at_once = self.per_device_train_batch_size
        count = processes()
        if self.minibatch_size is None:
            self.minibatch_size = self.per_device_train_batch_size * self.gradient_accumulation_steps * count
        elif self.per_device_train_batch_size * self.gradient_accumulation_steps * count != self.minibatch_size:
            if self.gradient_accumulation_steps != 1:
                raise ValueError(
                    f"gradient_accumulation_steps is {self.gradient_accumulation_steps}: leave it out, it follows from "
                    f"minibatch_size ({self.minibatch_size}) and per_device_train_batch_size"
                )
            share = share_equally(self.minibatch_size, count)
            self.per_device_train_batch_size = max(n for n in divisors(share) if n <= max(1, self.rows_at_once))
            self.gradient_accumulation_steps = share // self.per_device_train_batch_size
        self._derive()
        super().__post_init__()
        if self.world_size != count:
            raise ValueError(
                f"the environment says {count} process(es), and torch finds {self.world_size}: start the training with "
                "accelerate launch or torchrun, and on CPUs with --use_cpu true"
            )

    def _derive(self) -> None:
        """Set what follows from `minibatch_size`, before the library's own initialisation reads it."""


def share_equally(minibatch_size: int, count: int) -> int:
    """Rows of a minibatch for each of `count` processes.

    Raises:
        ValueError: It cannot be cut so; the message says how it can.
    """
    if minibatch_size < 1 or minibatch_size % count:
        fitting = ", ".join(str(n) for n in divisors(max(1, minibatch_size)))
        raise ValueError(
            f"minibatch_size is {minibatch_size}, which {count} process(es) cannot share equally: start as many as "
            f"divide it ({fitting}), or set it to a multiple of {count}"
        )
    return minibatch_size // count


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]

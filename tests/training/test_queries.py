"""Training and held-out queries of the embedded PPO run have nothing in common."""

from pathlib import Path

from training.embedded.images.diffusion import SHEET_SUBJECTS
from training.embedded.queries import OPENINGS, held_out, queries

COMMITTED = Path(__file__).parents[2] / "configs" / "ppo" / "queries"


def _bare(prompt: str) -> str:
    for opening in (*OPENINGS["train"], *OPENINGS["heldout"]):
        prompt = prompt.removeprefix(f"{opening} ")
    return prompt.removeprefix("a ").removeprefix("an ").lower()


def test_what_is_held_out_is_in_no_training_prompt():
    found = queries()
    train, heldout = found["train"], found["validation"] + found["test"]
    assert len(train) > 3000 and len(found["validation"]) > 200 and len(found["test"]) > 1000
    assert not {_bare(p) for p in train} & {_bare(p) for p in heldout}
    assert not any(p.startswith(OPENINGS["heldout"]) for p in train)
    assert not any(p.startswith(OPENINGS["train"]) for p in heldout)
    assert not {_bare(p) for p in SHEET_SUBJECTS} & {_bare(p) for p in train}
    assert len(set(train)) == len(train) and len(set(heldout)) == len(heldout)
    assert held_out("fox") == held_out("fox")


def test_the_committed_files_are_what_the_command_writes():
    for split, prompts in queries().items():
        assert (COMMITTED / f"{split}.txt").read_text().splitlines() == prompts

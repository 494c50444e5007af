"""What a training will take, before anything is loaded: models, memory, pictures, steps, disk.

    accelerate launch training/ppo.py --config configs/ppo/gpt2_sd15_pickscore.yaml --dry_run

A plan is made from the models' configs, so it needs no weights and no GPU. The memory of a process is what it holds all
the time, and the largest of its phases, which come one after the other:

    held     weights of policy, critic, reference, generator and rewards; the optimizer's moments
    phases   generate (the cache of keys and values, probabilities of the next token), draw (denoiser, decoder), score,
             logprobs, update (activations, logits, gradients)

What is held is exact. A phase is the peak of the tensors that its passes make, run on models without weights
(`skeletons.peak_bytes`) with the largest rows that the settings allow, all gradients there at the peak. What a GPU's
libraries take beside tensors (context, workspaces of convolutions, fragmentation) is not in it.
"""

from neuroprompt.training.planning.plan import Layout, Part, Plan
from neuroprompt.training.planning.runs import only_planned, plan_grpo, plan_ppo, plan_sft

__all__ = ["Layout", "Part", "Plan", "only_planned", "plan_grpo", "plan_ppo", "plan_sft"]

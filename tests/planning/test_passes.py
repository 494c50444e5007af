"""The memory of phases, beside what the code that they stand for takes on a CPU."""

from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModelForCausalLM

from neuroprompt.images import GeneratorConfig, ImageGenerator
from neuroprompt.models import locate
from neuroprompt.planning import passes, skeletons
from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, disable_dropout
from neuroprompt.ppo.rollouts import Queries, sample
from neuroprompt.rewards import load_reward
from tests.planning.measured import measured_bytes

ROWS, PROMPT, COMPLETION = 8, 20, 40
POLICY = locate("embedded", "policy")


@pytest.fixture(params=["eager", "sdpa"])
def policies(request):
    """The embedded policy, and its skeleton."""
    real = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32, attn_implementation=request.param)
    made = skeletons.causal_lm(POLICY, torch.float32, request.param)
    for policy in (real, made):
        disable_dropout(policy)
    return real, made


def test_update(policies):
    real, made = policies
    model = PolicyWithValue(real)
    ids = torch.randint(5, 1000, (ROWS, PROMPT + COMPLETION))
    mask, completion = torch.ones_like(ids), torch.ones(ROWS, COMPLETION, dtype=torch.bool)

    def step():
        logits = model(ids, mask, completion).logits
        token_logprobs(logits, ids[:, PROMPT:].flatten())[0].sum().backward()

    step()  # now the gradients are there
    estimate = passes.update(made, None, ROWS, PROMPT, COMPLETION, nullcontext)
    assert estimate == pytest.approx(measured_bytes(step), rel=0.05)


def test_logprobs(policies):
    real, made = policies
    model = PolicyWithValue(real).eval()
    ids = torch.randint(5, 1000, (ROWS, PROMPT + COMPLETION))
    mask, completion = torch.ones_like(ids), torch.ones(ROWS, COMPLETION, dtype=torch.bool)
    tokens = ids[:, PROMPT:].flatten()

    @torch.no_grad()
    def measure():  # as `PPOTrainer._measure`
        outputs = model(ids, mask, completion)
        token_logprobs(outputs.logits, tokens, entropy=True)
        reference = model(ids, mask, completion)
        token_logprobs(reference.logits, tokens)

    estimate = passes.logprobs(made, ROWS, PROMPT, COMPLETION, nullcontext)
    assert estimate == pytest.approx(measured_bytes(measure), rel=0.1)


def test_generate(policies):
    real, made = policies
    ids = torch.randint(5, 1000, (ROWS, PROMPT))
    queries = Queries(ids, torch.ones_like(ids), torch.full((ROWS,), COMPLETION))
    noise = torch.rand(ROWS, COMPLETION, dtype=torch.float64)
    closed = torch.zeros(real.config.vocab_size, dtype=torch.long)
    eos = real.config.eos_token_id

    # With its separators out of reach no row ends before its budget.
    measured = measured_bytes(lambda: sample(real.eval(), queries, noise, eos, 1.0, closed, 1))
    estimate = passes.generate(made, ROWS, PROMPT, COMPLETION, nullcontext)
    assert estimate == pytest.approx(measured, rel=0.15)


def test_language_modelling(policies):
    real, made = policies
    ids = torch.randint(5, 1000, (ROWS, PROMPT + COMPLETION))

    def step():
        real.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    step()
    estimate = passes.language_modelling(made, ROWS, PROMPT + COMPLETION, nullcontext, logits=True)
    assert estimate == pytest.approx(measured_bytes(step), rel=0.1)
    tiles = passes.language_modelling(made, ROWS, PROMPT + COMPLETION, nullcontext, logits=False)
    vocabulary = ROWS * (PROMPT + COMPLETION) * real.config.vocab_size * 4
    assert tiles < estimate - vocabulary


def test_draw():
    config = GeneratorConfig(num_inference_steps=2, batch_size=8, guidance_scale=3.0)
    real = ImageGenerator.from_pretrained("embedded", device="cpu", config=config)
    source = locate("embedded", "stable-diffusion")
    made = ImageGenerator(skeletons.pipeline(source, torch.float32), real.config)
    estimate, whole = passes.draw(made)
    measured = measured_bytes(lambda: real.draw(["a castle"] * 8, list(range(8))))
    assert whole
    assert estimate == pytest.approx(measured, rel=0.15)


def test_score():
    real = load_reward("clip", "embedded", device="cpu")
    config = GeneratorConfig(batch_size=64, height=64, width=64)
    made = ImageGenerator(skeletons.pipeline(locate("embedded", "stable-diffusion"), torch.float32), config)
    encoder = skeletons.clip(locate("embedded", "clip"), torch.float32)
    estimate = passes.score(encoder, encoder.get_image_features, encoder.config.vision_config.image_size, made)
    pictures = torch.rand(64, 3, 64, 64)
    measured = measured_bytes(lambda: real.encoder.encode_images(pictures.clone()))
    assert estimate == pytest.approx(measured, rel=0.2)


def test_checkpointing_takes_less(policies):
    _, made = policies
    whole = passes.update(made, None, ROWS, PROMPT, COMPLETION, nullcontext)
    made.gradient_checkpointing_enable()
    assert passes.update(made, None, ROWS, PROMPT, COMPLETION, nullcontext) < 0.8 * whole

"""Policy and critic in one forward pass: right at every token, whatever the padding, and saved as two things."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.ppo.model import VALUE_FILE, PolicyWithValue, disable_dropout
from neuroprompt.ppo.rollouts import model_inputs
from tests.ppo.conftest import tiny_policy

PROMPTS = [[3, 4], [5, 2, 6, 7, 3], [4]]
COMPLETIONS = [[2, 7, 8, 0], [9], [2, 10, 2, 11, 5, 0]]


def batch(rows, left=0, right=0):
    """Padded with rubbish that only the masks tell apart, and with more of it than is needed."""
    width = left + max(len(PROMPTS[r]) for r in rows)
    length = right + max(len(COMPLETIONS[r]) for r in rows)
    prompts, completions = torch.full((len(rows), width), 13), torch.full((len(rows), length), 12)
    prompt_mask, completion_mask = torch.zeros_like(prompts), torch.zeros_like(completions)
    for i, r in enumerate(rows):
        prompts[i, width - len(PROMPTS[r]) :] = torch.tensor(PROMPTS[r])
        prompt_mask[i, width - len(PROMPTS[r]) :] = 1
        completions[i, : len(COMPLETIONS[r])] = torch.tensor(COMPLETIONS[r])
        completion_mask[i, : len(COMPLETIONS[r])] = 1
    return prompts, prompt_mask, completions, completion_mask


def with_value(policy, separate=False):
    torch.manual_seed(1)
    model = PolicyWithValue(policy, tiny_policy(5).transformer if separate else None)
    torch.nn.init.normal_(model.value_head.weight)
    disable_dropout(model)
    return model


@pytest.mark.parametrize("separate", [False, True])
def test_a_padded_batch_is_its_rows(policy, separate):
    model = with_value(policy, separate).train()
    prompts, prompt_mask, completions, mask = batch([0, 1, 2], left=3, right=2)
    tokens = completions[mask.bool()]

    def loss(outputs, tokens):
        logprobs, _ = token_logprobs(outputs.logits, tokens, 0.7)
        return (logprobs * outputs.state_values).sum()

    outputs = model(**model_inputs(prompts, prompt_mask, completions, mask))
    assert outputs.logits.shape == (11, 14) and outputs.state_values.shape == (11,)
    loss(outputs, tokens).backward()
    padded = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    single = []
    for row in range(3):
        prompts, prompt_mask, completions, mask = batch([row])
        one = model(**model_inputs(prompts, prompt_mask, completions, mask))
        loss(one, completions[mask.bool()]).backward()
        single.append(one)
    assert torch.allclose(outputs.logits, torch.cat([o.logits for o in single]), atol=1e-5)
    assert torch.allclose(outputs.state_values, torch.cat([o.state_values for o in single]), atol=1e-5)
    for name, p in model.named_parameters():
        if name in padded:
            assert torch.allclose(padded[name], p.grad, atol=1e-4), name


def test_logits_are_the_models_own(policy):
    model = with_value(policy).eval()
    for row in range(3):
        prompts, prompt_mask, completions, mask = batch([row])
        outputs = model(**model_inputs(prompts, prompt_mask, completions, mask))
        whole = policy(torch.tensor([PROMPTS[row] + COMPLETIONS[row]]), output_hidden_states=True)
        n, c = len(PROMPTS[row]), len(COMPLETIONS[row])
        assert torch.allclose(outputs.logits, whole.logits[0, n - 1 : n + c - 1], atol=1e-5)
        values = model.value_head(whole.hidden_states[-1][0, n - 1 : n + c - 1]).squeeze(-1)
        assert torch.allclose(outputs.state_values, values, atol=1e-5)
    assert not policy.get_output_embeddings()._forward_pre_hooks


def test_the_head_starts_at_zero(policy):
    prompts, prompt_mask, completions, mask = batch([0, 1])
    outputs = PolicyWithValue(policy)(**model_inputs(prompts, prompt_mask, completions, mask))
    assert not outputs.state_values.any()


def test_dropout_is_off_in_training_mode(policy):
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=14,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            attention_dropout=0.5,
        )
    )
    inputs = model_inputs(*batch([0, 1, 2]))
    for model in (PolicyWithValue(policy).train(), PolicyWithValue(llama).train()):
        assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
        disable_dropout(model)
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("separate", [False, True])
def test_saved_apart_and_loaded_together(policy, separate, tmp_path):
    model = with_value(policy, separate)
    model.save(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain) is type(policy)
    assert not any("value" in name for name in plain.state_dict())
    other = PolicyWithValue(tiny_policy(9), tiny_policy(8).transformer if separate else None)
    other.load(tmp_path)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert other.policy.lm_head.weight is other.policy.transformer.wte.weight
    with pytest.raises(ValueError, match="another critic"):
        PolicyWithValue(tiny_policy(), None if separate else tiny_policy().transformer).load(tmp_path)
    (tmp_path / VALUE_FILE).unlink()
    with pytest.raises(ValueError, match="no PPO checkpoint"):
        other.load(tmp_path)


def test_adapters(policy, tmp_path):
    peft = pytest.importorskip("peft")
    inputs = model_inputs(*batch([0, 1, 2]))
    base = PolicyWithValue(policy).eval()(**inputs).logits.detach()

    def adapted(seed):
        torch.manual_seed(seed)
        lora = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
        return PolicyWithValue(peft.get_peft_model(tiny_policy(), lora)).eval()

    model, other = adapted(1), adapted(2)
    assert model.is_peft and not PolicyWithValue(policy).is_peft
    logits = model(**inputs).logits
    assert not torch.allclose(logits, base, atol=1e-3)
    with model.policy.disable_adapter():
        assert torch.allclose(model(**inputs).logits, base, atol=1e-5)
    model.save(tmp_path)
    other.load(tmp_path)
    assert torch.equal(other(**inputs).logits, logits)

"""How policies are loaded, what is refused, and that a prompt is read as it was in training."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig
from trl import SFTConfig

from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.peers import PeerRewriter
from neuroprompt.formats import CONTINUE, CONTROLS, control_tokens
from neuroprompt.models import ModelError, locate
from neuroprompt.policies import PolicyConfig, load_policy, load_tokenizer
from neuroprompt.ppo.rollouts import encode
from neuroprompt.prompts import clip_tokenizer
from neuroprompt.training.sft import PolicyTrainer, tell_media
from tests.checkpoints import policies

PROMPTS = ["boy on a horse", "a castle at night", "日本の城 🏯"]
COMPLETIONS = [", 8k, highly detailed", " by greg rutkowski", ", hdr"]


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded policy."""
    alone = shutil.ignore_patterns("reward_model")
    return Path(shutil.copytree(locate("embedded", "policy"), tmp_path / "policy", ignore=alone))


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weights(folder: Path, function) -> None:
    weights = load_file(folder / "model.safetensors")
    function(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# --- a model that is not what it says ----------------------------------------------------------------------------


def another_architecture(folder):
    change(folder / "config.json", model_type="bert", architectures=["BertLMHeadModel"])


def more_layers(folder):
    change(folder / "config.json", n_layer=99)


def fewer_layers(folder):
    change(folder / "config.json", n_layer=1)


def another_width(folder):
    change(folder / "config.json", n_inner=7)


def a_weight_less(folder):
    change_weights(folder, lambda weights: weights.pop(sorted(weights)[0]))


def not_a_number(folder):
    change_weights(folder, lambda weights: weights[sorted(weights)[3]].flatten()[1:2].fill_(torch.nan))


def infinite(folder):
    change_weights(folder, lambda weights: weights[sorted(weights)[3]].flatten()[1:2].fill_(-torch.inf))


def decoding_that_is_no_json(folder):
    (folder / "generation_config.json").write_text('{"do_sample": tru')


def decoding_that_makes_no_sense(folder):
    change(folder / "generation_config.json", temperature="hot")


def decoding_that_is_no_answer(folder):
    change(folder / "generation_config.json", usual="sometimes")


def no_tokenizer(folder):
    for file in folder.glob("*"):
        if file.name not in ("config.json", "generation_config.json", "model.safetensors"):
            file.unlink()


def the_tokenizer_of_another(folder):
    no_tokenizer(folder)
    policies.gpt2(folder.parent / "gpt2")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder.parent / "gpt2" / file, folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (another_architecture, "is not what its config says: its files lack"),
        (more_layers, "is not what its config says: its files lack"),
        (fewer_layers, "is not what its config says: its files hold"),
        (another_width, "cannot load the policy"),
        (a_weight_less, "is not what its config says: its files lack 1 of"),
        (not_a_number, "holds numbers that are NaN or infinite"),
        (infinite, "holds numbers that are NaN or infinite"),
        (decoding_that_is_no_json, "has a generation_config.json that cannot be read"),
        (decoding_that_makes_no_sense, "whose temperature is 'hot': give a number from 0 up"),
        (decoding_that_is_no_answer, "whose usual is 'sometimes': give true or false"),
        (no_tokenizer, "has no tokenizer: copy the files of the one"),
        (the_tokenizer_of_another, "is another model's: it has 50257 entries, and the model reads"),
    ],
)
def test_a_policy_that_is_not_what_it_says_is_refused(folder, spoil, message):
    PromptEnhancer.from_pretrained(folder, device="cpu")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as error:
        PromptEnhancer.from_pretrained(folder, device="cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_what_is_left_over_of_other_tasks_does_no_harm(folder):
    """A value head, and the masks that old GPT-2 files hold."""
    extra = {"v_head.summary.weight": torch.ones(1, 8), "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    change_weights(folder, lambda weights: weights.update(extra))
    assert load_policy(folder).config.model_type == "gpt2"


# --- adapters ----------------------------------------------------------------------------------------------------


@pytest.fixture
def adapters(tmp_path):
    """Adapters of the embedded policy that change it, and the logits that it has with them."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(locate("embedded", "policy"), dtype=torch.float32)
    config = LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    model = get_peft_model(base, config).eval()
    model.peft_config["default"].base_model_name_or_path = "embedded"
    model.save_pretrained(tmp_path / "adapters")
    with torch.no_grad():
        return tmp_path / "adapters", model(torch.arange(9)[None]).logits


def test_adapters_are_merged_into_their_model(adapters):
    folder, logits = adapters
    model = load_policy(folder, dtype=torch.float32).eval()
    assert type(model).__name__ == "GPT2LMHeadModel"
    with torch.no_grad():
        torch.testing.assert_close(model(torch.arange(9)[None]).logits, logits, atol=1e-4, rtol=1e-4)
        assert (load_policy("embedded")(torch.arange(9)[None]).logits - logits).abs().max() > 0.1


def test_the_adapter_that_retells_fits_its_model():
    """By names and shapes: those of HuggingFaceTB/SmolLM2-135M-Instruct's config, without weights."""
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}
    folder = Path(locate("retell", "policy"))
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, num_attention_heads=9, num_key_value_heads=3))
        model = get_peft_model(base, PeftConfig.from_pretrained(folder))
    wanted = {name: weight.shape for name, weight in get_peft_model_state_dict(model).items()}
    found = {name: weight.shape for name, weight in load_file(folder / "adapter_model.safetensors").items()}
    assert found == wanted


def test_adapters_that_are_not_whole_are_refused(adapters, folder):
    where, _ = adapters
    weights = load_file(where / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), where / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="missing adapter keys"):
        load_policy(where)
    shutil.copy(where / "adapter_config.json", folder)
    with pytest.raises(ModelError, match="both a model and adapters"):
        load_policy(folder)
    torch.save(weights, where / "adapter_model.bin")
    (where / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled weights"):
        load_policy(where)


# --- how a prompt is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "start"), [("gpt2", []), ("llama", [1])])
def test_a_prompt_is_read_as_in_supervised_training(tmp_path, monkeypatch, kind, start):
    """BOS, where a tokenizer adds one, is there for TRL, for PPO and for rewriting alike."""
    folder = getattr(policies, kind)(tmp_path / kind)
    data = Dataset.from_dict({"prompt": PROMPTS, "completion": COMPLETIONS})
    config = SFTConfig(str(tmp_path / "run"), use_cpu=True, bf16=False, report_to="none", max_length=None)
    trainer = PolicyTrainer(load_policy(folder), config, train_dataset=data, processing_class=load_tokenizer(folder))
    enhancer, seen = PromptEnhancer(load_policy(folder), load_tokenizer(folder)), []
    generate = enhancer.model.generate

    def record(ids, attention_mask, **settings):
        seen.extend(_unpad(ids, attention_mask))
        return generate(ids, attention_mask=attention_mask, **settings)

    monkeypatch.setattr(enhancer.model, "generate", record)
    enhancer(PROMPTS, max_new_tokens=2, num_beams=1, output_scores=False, coherent=False)
    read = CONTINUE.encode(enhancer.tokenizer, PROMPTS)
    queries = encode(PROMPTS, enhancer.tokenizer, 512, 77, None)
    assert _unpad(queries.ids, queries.mask) == read and sorted(seen) == sorted(read)
    for ids, pair in zip(read, trainer.train_dataset["input_ids"], strict=True):
        assert pair[: len(ids)] == ids
        assert ids[: len(start)] == start and enhancer.tokenizer.bos_token_id not in ids[len(start) :]


def _unpad(ids, mask):
    return [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]


def test_of_what_is_too_long_the_end_is_read_after_the_start(tmp_path):
    tokenizer = load_tokenizer(policies.llama(tmp_path / "llama"))
    whole, short = CONTINUE.encode(tokenizer, ["castle " * 30, "fox"], [10, 10])
    assert len(whole) == 10 and whole[0] == tokenizer.bos_token_id
    assert whole[1:] == tokenizer("castle " * 30)["input_ids"][-9:]
    assert short == tokenizer("fox")["input_ids"]
    assert CONTINUE.encode(tokenizer, []) == []


MEDIA_PROMPTS = ["oil painting of a fox", "a fox", "a fox, pixel art"]


@pytest.fixture(params=["gpt2", "llama"])
def told(request, tmp_path):
    """A policy that can be told a prompt's medium, in a folder."""
    return policies.told_media(getattr(policies, request.param)(tmp_path / request.param))


def first_words(tokenizer, rows):
    """Of each row the token after what stands before every text."""
    return [tokenizer.convert_ids_to_tokens(row[len(tokenizer("")["input_ids"])]) for row in rows]


def test_a_policy_is_told_the_medium_where_it_can_be(told, tmp_path):
    tokenizer, before = load_tokenizer(told), load_tokenizer(policies.llama(tmp_path / "before"))
    read = CONTINUE.encode(tokenizer, MEDIA_PROMPTS)
    assert first_words(tokenizer, read) == ["<|paint|>", "<|any|>", "<|pixel|>"]
    assert tokenizer.decode(read[0], skip_special_tokens=True) == MEDIA_PROMPTS[0]
    required = CONTINUE.encode(tokenizer, ["a fox"], about=["a fox, watercolor"])
    assert first_words(tokenizer, required) == ["<|paint|>"] and required[0][-2:] == read[1][-2:]
    assert CONTINUE.encode(before, MEDIA_PROMPTS) == before(MEDIA_PROMPTS)["input_ids"]
    assert set(control_tokens(before).values()) == {""}


def test_what_is_told_stays_where_a_prompt_is_cut(told):
    tokenizer = load_tokenizer(told)
    start = len(tokenizer("")["input_ids"])
    (short,) = CONTINUE.encode(tokenizer, ["oil painting of a fox " * 30], [10])
    assert len(short) == 10 and first_words(tokenizer, [short]) == ["<|paint|>"]
    assert short[start + 1 :] == tokenizer("oil painting of a fox " * 30)["input_ids"][start - 10 + 1 :]


def test_pairs_are_told_their_medium_as_at_inference(told, tmp_path):
    tokenizer = load_tokenizer(told)
    rows = {"prompt": MEDIA_PROMPTS, "completion": [", 8k", ", hdr", ", fog"], "medium": ["paint", "", "pixel"]}
    splits = DatasetDict(train=Dataset.from_dict(rows), validation=Dataset.from_dict(rows))
    all_told, none_told = (tell_media(splits, tokenizer, share) for share in (1.0, 0.0))
    config = SFTConfig(str(tmp_path / "run"), use_cpu=True, bf16=False, report_to="none", max_length=None)
    trainer = PolicyTrainer(load_policy(told), config, train_dataset=all_told["train"], processing_class=tokenizer)
    for ids, pair in zip(CONTINUE.encode(tokenizer, MEDIA_PROMPTS), trainer.train_dataset["input_ids"], strict=True):
        assert pair[: len(ids)] == ids
    anything = [f"<|any|>{prompt}" for prompt in MEDIA_PROMPTS]
    assert all_told["validation"]["prompt"][:] == none_told["train"]["prompt"][:] == anything
    assert tell_media(splits, clip_tokenizer(), 1.0) is splits  # which has no such tokens


def test_the_share_that_is_told_is_drawn_pair_by_pair(told):
    tokenizer = load_tokenizer(told)
    rows = {"prompt": [f"fox {i}" for i in range(999)], "completion": [", oil"] * 999, "medium": ["paint"] * 999}
    pairs = DatasetDict(train=Dataset.from_dict(rows))
    drawn = tell_media(pairs, tokenizer, 0.7)["train"]["prompt"][:]
    assert 0.65 < sum(prompt.startswith("<|paint|>") for prompt in drawn) / 999 < 0.75
    turned = DatasetDict(train=pairs["train"].select(range(998, -1, -1)))
    assert tell_media(turned, tokenizer, 0.7)["train"]["prompt"][:] == drawn[::-1]
    with pytest.raises(ValueError, match="prepare the data again"):
        tell_media(DatasetDict(train=pairs["train"].remove_columns("medium")), tokenizer, 0.7)


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}, {"constraints": Constraints(require="watercolor")}])
def test_rewriting_tells_the_medium_and_never_writes_it(told, monkeypatch, settings):
    """Not even a policy to which these tokens are the likeliest ones."""
    enhancer = PromptEnhancer.from_pretrained(told, device="cpu")
    controls = enhancer.tokenizer.convert_tokens_to_ids(list(CONTROLS.values()))
    enhancer.model.lm_head.register_forward_hook(
        lambda module, given, logits: logits.index_add(
            -1, torch.tensor(controls), torch.full((*logits.shape[:-1], 12), 99.0)
        )
    )
    generate, calls = enhancer.model.generate, []

    def record(ids, **arguments):
        calls.append((ids, generate(ids, **arguments)))
        return calls[-1][1]

    monkeypatch.setattr(enhancer.model, "generate", record)
    enhancer(["a fox", "a fox in the snow"], max_new_tokens=12, num_beams=2, **settings)
    for ids, written in calls:
        told_of = {t for t in ids.flatten().tolist() if t in controls}
        assert told_of == {controls[list(CONTROLS).index("paint" if "constraints" in settings else "")]}
        assert not set(written.sequences[:, ids.shape[1] :].flatten().tolist()) & set(controls)


def test_a_score_is_the_one_after_what_was_told(told):
    enhancer = PromptEnhancer.from_pretrained(told, device="cpu")
    result = enhancer("a fox", Constraints(require="watercolor"), num_beams=1, max_new_tokens=12)
    head = enhancer.tokenizer("<|paint|>a fox")["input_ids"]
    tail = enhancer.tokenizer(result.text.removeprefix("a fox"), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logprobs = enhancer.model(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
    expected = [logprobs[len(head) - 1 + i, token].item() for i, token in enumerate(tail)]
    assert result.score == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_a_peer_is_told_the_medium(told):
    rewriter = PeerRewriter(PolicyConfig(model=str(told), template="{prompt} Rephrase:"), device="cpu")
    assert rewriter.peer.ask(rewriter.tokenizer, "oil painting of a fox") == "<|paint|>oil painting of a fox Rephrase:"


def test_a_score_is_given_after_the_start(tmp_path):
    """The score is the log-probability after BOS, as the policy was trained."""
    folder = policies.llama(tmp_path / "llama")
    enhancer = PromptEnhancer.from_pretrained(folder, device="cpu")
    result = enhancer("a fox", Constraints(require="hdr"), num_beams=1, max_new_tokens=12)
    head = enhancer.tokenizer("a fox")["input_ids"]
    tail = enhancer.tokenizer(result.text.removeprefix("a fox"), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logprobs = enhancer.model(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
    expected = [logprobs[len(head) - 1 + i, token].item() for i, token in enumerate(tail)]
    assert head[0] == enhancer.tokenizer.bos_token_id
    assert tail and result.score == pytest.approx(sum(expected) / len(expected), abs=1e-4)

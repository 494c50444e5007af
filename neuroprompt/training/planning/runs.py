"""The plans of the three trainings, from the same arguments as the trainings take."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import trl
from accelerate import PartialState
from torch import nn
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    PreTrainedModel,
    TrainingArguments,
)
from trl import ModelConfig, get_peft_config

from neuroprompt.data import PromptData
from neuroprompt.enhancer import TOKENS_PER_CLIP_TOKEN
from neuroprompt.formats import CONTINUE, PromptFormat
from neuroprompt.formats import FILE as FORMAT_FILE
from neuroprompt.images import (
    GeneratorConfig,
    PipelineGenerator,
    as_its_card_says,
    drawing_dtype,
    read_generator,
    read_urls,
)
from neuroprompt.models import ModelError, locate
from neuroprompt.ppo.config import GRPOConfig, PPOConfig, RLOOConfig
from neuroprompt.ppo.model import disable_dropout
from neuroprompt.ppo.rollouts import answer_budget
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens
from neuroprompt.rewards import PLAIN, aesthetic, chosen_model, clip, is_url, pickscore, vqa
from neuroprompt.rewards.encoders import open_clip_name
from neuroprompt.rewards.loading import pick_dtype
from neuroprompt.scoring import RewardArguments
from neuroprompt.terminal import counted
from neuroprompt.training.planning import passes, skeletons
from neuroprompt.training.planning.plan import Layout, Part, Plan
from neuroprompt.training.planning.skeletons import parameters, weight_bytes

if TYPE_CHECKING:
    from neuroprompt.training.queries import QueryArguments
    from neuroprompt.training.sft import SFTArguments

SPECIAL_TOKENS = 2  # of CLIP's window: its begin and its end
MARKUP = 16  # tokens of a chat template around its messages


def plan_sft(arguments: "SFTArguments", config: trl.SFTConfig, model_config: ModelConfig) -> Plan:
    """What `neuroprompt.training.sft.train_sft` takes.

    Raises:
        ModelError: The model is not there.
    """
    policy, layout = _policy(config, model_config), Layout.of(config)
    autocast, on_cpu = _autocast(config), _device(config).type == "cpu"
    rows, length = config.per_device_train_batch_size, config.max_length or policy.config.max_position_embeddings

    @cache
    def phases() -> list[Part]:
        size = partial(passes.language_modelling, policy, rows, length, autocast, logits=on_cpu)
        return [_phase(f"update: {rows} texts of {length} tokens", size)]

    batch = rows * config.gradient_accumulation_steps * layout.processes
    there = arguments.data_dir and Path(arguments.data_dir).is_dir()
    pairs = len(PromptData.load(arguments.data_dir).pairs["train"]) if there else None
    steps = config.max_steps
    if steps < 0 and pairs is not None:
        steps = math.ceil(math.ceil(pairs / batch) * config.num_train_epochs)
    schedule = {
        "pairs": f"{pairs:,}" if pairs else f"not known before {arguments.data_dir or 'data_dir'} is there",
        "pairs of a step": f"{batch:,}",
        "optimizer steps": f"{steps:,}" if steps > 0 else f"{config.num_train_epochs:g} pass(es) over the pairs",
        **_events(config, steps, f"{arguments.eval_samples:,} pairs at most"),
    }
    return Plan(
        f"SFT of {model_config.model_name_or_path}",
        _device(config),
        layout,
        policy,
        [],
        phases,
        schedule,
        _saves(config, steps),
        Path(config.output_dir),
    )


def plan_ppo(
    arguments: "QueryArguments", reward_arguments: RewardArguments, config: PPOConfig, model_config: ModelConfig
) -> Plan:
    """What `neuroprompt.training.ppo.train_ppo` takes.

    Raises:
        ModelError: A model is not there.
    """
    policy, layout = _policy(config, model_config), Layout.of(config)
    disable_dropout(policy)
    frozen, pictures = _pictures(arguments, reward_arguments, config)
    trained = nn.ModuleList([policy])
    critic = None
    if config.critic == "copy":
        critic = _policy(config, model_config, adapters=False).base_model
        disable_dropout(critic)
        trained.append(critic)
    if config.critic != "predictor":
        with skeletons.UNALLOCATED:
            trained.append(nn.Linear(policy.get_output_embeddings().weight.shape[1], 1))
    if not model_config.use_peft:
        frozen.insert(0, Part("reference", weight_bytes(policy), parameters(policy)))

    positions = getattr(policy.config, "max_position_embeddings", None) or 10**9
    prompt, completion = _lengths(arguments, config, positions, _asked(arguments, model_config))
    rows, autocast = config.per_device_train_batch_size, _autocast(config)
    written = sum(config.wrote(config.rollouts)) // layout.processes
    measured = min(written, config.rows_at_once)

    @cache
    def phases() -> list[Part]:
        sizes = {"prompt": prompt, "completion": completion, "autocast": autocast}
        return [
            _phase(f"generate: {written:,} rewrites", partial(passes.generate, policy, written, **sizes)),
            *pictures(),
            _phase(f"logprobs: {measured} rewrites", partial(passes.logprobs, policy, measured, **sizes)),
            _phase(f"update: {rows} rewrites", partial(passes.update, policy, critic, rows, **sizes)),
        ]

    schedule = _schedule(arguments, reward_arguments, config, config.completions_per_prompt)
    return Plan(
        f"PPO of {model_config.model_name_or_path}",
        _device(config),
        layout,
        trained,
        frozen,
        phases,
        schedule,
        _saves(config, config.max_steps),
        Path(config.output_dir),
        _notes(arguments, reward_arguments),
    )


def plan_grpo(
    arguments: "QueryArguments",
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> Plan:
    """What `neuroprompt.training.grpo.train_grpo` takes.

    Raises:
        ModelError: A model is not there.
    """
    policy, layout = _policy(config, model_config), Layout.of(config)
    frozen, pictures = _pictures(arguments, reward_arguments, config)
    if not model_config.use_peft and config.beta:
        frozen.insert(0, Part("reference", weight_bytes(policy), parameters(policy)))
    rows, autocast = config.per_device_train_batch_size, _autocast(config)
    around = _around(_asked(arguments, model_config))
    prompt, completion = around + CLIP_WINDOW - SPECIAL_TOKENS - arguments.min_room, config.max_completion_length
    written = config.rollouts // layout.processes

    @cache
    def phases() -> list[Part]:
        return [
            _phase(
                f"generate: {written:,} rewrites",
                partial(passes.generate, policy, written, prompt, completion, autocast),
            ),
            *pictures(),
            _phase(
                f"update: {rows} rewrites",
                partial(passes.language_modelling, policy, rows, prompt + completion, autocast, logits=False),
            ),
        ]

    schedule = _schedule(arguments, reward_arguments, config, config.num_generations)
    name = "GRPO" if isinstance(config, trl.GRPOConfig) else "RLOO"
    return Plan(
        f"{name} of {model_config.model_name_or_path}",
        _device(config),
        layout,
        policy,
        frozen,
        phases,
        schedule,
        _saves(config, config.max_steps),
        Path(config.output_dir),
        _notes(arguments, reward_arguments),
    )


def only_planned(plan: Plan, dry_run: bool) -> bool:
    """Show the plan, where no more than that is asked for; else its numbers, once it has refused what cannot be."""
    if not dry_run:
        plan.check()
    if PartialState().is_main_process:
        print(plan if dry_run else plan.numbers, flush=True)
    return dry_run


def _device(config: TrainingArguments) -> torch.device:
    """Where the run is to be: a GPU, unless the CPU is asked for."""
    return torch.device("cuda") if config.device.type == "cpu" and not config.use_cpu else config.device


def _phase(name: str, run: Callable[[], int]) -> Part:
    """A phase; it is an estimate, so where a model's passes cannot be followed (experts are chosen by values, say) the
    plan says so and goes on."""
    try:
        return Part(name, run())
    except Exception as error:
        return Part(f"{name} (not estimated: {type(error).__name__})", 0)


# --- the policy --------------------------------------------------------------------------------------------------


def _policy(config: TrainingArguments, model_config: ModelConfig, adapters: bool = True) -> PreTrainedModel:
    settings = {"dtype": model_config.dtype} | (getattr(config, "model_init_kwargs", None) or {})
    dtype = None if settings["dtype"] in (None, "auto") else getattr(torch, str(settings["dtype"]))
    name = model_config.model_name_or_path or "embedded"
    if name.count("/") > 1 and not Path(name).expanduser().exists():
        raise ModelError(
            f"there is no folder {name!r}: train what is to be there first, or plan (--dry_run) with the model that it "
            "starts from as --model_name_or_path"
        )
    source = locate(name, "policy")
    policy = skeletons.causal_lm(source, dtype, model_config.attn_implementation, model_config.model_revision)
    if adapters and (peft_config := get_peft_config(model_config)):
        from peft import get_peft_model

        with skeletons.UNALLOCATED:
            policy = get_peft_model(policy, peft_config)
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable()
    return policy


def _autocast(config: TrainingArguments) -> passes.Autocast:
    if not config.bf16:
        return nullcontext
    return partial(torch.autocast, "cpu", torch.bfloat16)  # skeletons are on the CPU, wherever the run will be


def _asked(arguments: "QueryArguments", model_config: ModelConfig) -> PromptFormat:
    """How the policy is asked, as far as that can be known without it."""
    beside = Path(model_config.model_name_or_path or "embedded", FORMAT_FILE)
    return arguments.asked or (PromptFormat.from_file(beside) if beside.is_file() else CONTINUE)


def _around(prompt_format: PromptFormat) -> int:
    """Tokens that a policy reads around a prompt, about."""
    text = f"{prompt_format.instruction or ''} {prompt_format.template.replace('{prompt}', '')}".strip()
    return MARKUP * prompt_format.chat + (count_clip_tokens(text) if text else 0)


def _lengths(
    arguments: "QueryArguments", config: PPOConfig, positions: int, prompt_format: PromptFormat
) -> tuple[int, int]:
    """The most tokens of a prompt and of a completion (`rollouts.encode`), one for each of CLIP's."""
    if prompt_format.replaces:
        completion = answer_budget(prompt_format, config.window, config.max_new_tokens)
        longest = config.window - SPECIAL_TOKENS - arguments.min_room if config.window is not None else positions
        return min(positions - completion, _around(prompt_format) + longest), completion
    completion = positions // 2
    if config.max_new_tokens is not None:
        completion = min(completion, config.max_new_tokens)
    prompt = positions - completion
    if config.window is not None:
        completion = min(completion, math.ceil(TOKENS_PER_CLIP_TOKEN * (config.window - SPECIAL_TOKENS)))
        prompt = min(prompt, config.window - SPECIAL_TOKENS - arguments.min_room)
    return prompt, completion


# --- pictures and rewards ----------------------------------------------------------------------------------------


def _pictures(
    arguments: "QueryArguments", reward_arguments: RewardArguments, config: TrainingArguments
) -> tuple[list[Part], Callable[[], list[Part]]]:
    """What the images' reward holds, and what makes the list of its phases."""
    if arguments.reward_func:
        return [], list
    device = _device(config)
    name, drawing = read_generator(reward_arguments.generator)
    readers, heads = _rewards(reward_arguments, pick_dtype(reward_arguments.reward_dtype, device))
    generator = None if read_urls(name) else _generator(name, drawing, device)
    drawing, parts = (generator.config, _parts(generator)) if generator else (drawing, [])
    for name, model, _ in readers:
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        parts.append(Part(f"reward: {name}, {dtype}", weight_bytes(model), parameters(model)))
    if heads:
        parts.append(Part("rewards' heads", weight_bytes(*heads), parameters(*heads)))

    def phases() -> list[Part]:
        shown = f"{drawing.batch_size} pictures" + (f" of {' x '.join(map(str, drawing.size))}" if drawing.size else "")
        return [
            *([_drawing(generator, shown)] if generator else []),
            _phase(f"score: {shown}", lambda: max((reader.score(drawing) for reader in readers), default=0)),
        ]

    return parts, phases


def _parts(generator: PipelineGenerator) -> list[Part]:
    """What a pipeline holds."""
    models = _models(generator)
    dtypes = {name: str(m.dtype).removeprefix("torch.") for name, m in models.items()}
    offload = generator.config.cpu_offload
    return [
        Part(f"generator: {name}, {dtypes[name]}", 0 if offload else weight_bytes(m), parameters(m))
        for name, m in models.items()
    ]


def _drawing(generator: PipelineGenerator, shown: str) -> Part:
    """The phase in which it draws."""
    models = _models(generator)
    waits = max(map(weight_bytes, models.values())) if generator.config.cpu_offload == "model" else 0
    part = "" if hasattr(generator.pipeline, "unet") else ", the decoder alone"  # of others it is not known
    return _phase(f"draw: {shown}{part}", lambda: waits + passes.draw(generator))


def _models(generator: PipelineGenerator) -> dict[str, nn.Module]:
    return {name: m for name, m in generator.pipeline.components.items() if isinstance(m, nn.Module)}


def _generator(name: str, config: GeneratorConfig, device: torch.device) -> PipelineGenerator:
    """`build_reward`'s generator without weights."""
    config = as_its_card_says(config, name)
    absent = device.type != "cpu" and not torch.accelerator.is_available()
    dtype = "bfloat16" if absent and config.dtype in (None, "auto") else drawing_dtype(config.dtype, device)
    source = locate(name, "stable-diffusion")
    return PipelineGenerator(
        skeletons.pipeline(source, getattr(torch, dtype), config.safety_checker), config, name=name
    )


class _Reader(NamedTuple):
    """What rewards read pictures through: an encoder, or a vision-language model."""

    name: str
    model: nn.Module
    score: Callable[[GeneratorConfig], int]  # the bytes of a batch's pass


def _rewards(arguments: RewardArguments, dtype: torch.dtype) -> tuple[list[_Reader], list[nn.Module]]:
    """What the rewards and judges read pictures through, each once (as `Encoders`), and the heads on top."""
    readers: dict[str, _Reader] = {}
    heads: list[nn.Module] = []

    def hold(key: str, name: str, model: nn.Module, encode: Callable) -> None:
        readers[key] = _Reader(name, model, partial(passes.score, model, encode, _picture_size(model)))

    def share(name: str, kind: str = "clip") -> None:
        tag = open_clip_name(name) if kind != "vlm" else None
        source = name if tag else locate(name, kind)
        if source in readers:
            return
        shown = Path(source).name if Path(source).is_dir() else name
        if tag:
            model = skeletons.open_clip_model(tag[0], dtype)
            hold(source, name, model, model.encode_image)
        elif kind == "vlm":
            model = skeletons.vision_language(source, dtype)
            readers[source] = _Reader(shown, model, partial(passes.read, model))
        else:
            model = skeletons.clip(source, dtype)
            hold(source, shown, model, model.get_image_features)

    for name, own_model, _, _ in arguments.parts:
        model = chosen_model(own_model, arguments.reward_model)
        if is_url(model):  # its memory is the server's
            continue
        if name == "pickscore":
            share(model or pickscore.MODEL, "pickscore")
        elif name == "clip":
            share(model or clip.MODEL)
        elif name == "aesthetic":
            head, encoder = _aesthetic(model)
            heads.append(head)
            share(encoder)
        elif name in ("vqa", "echo", "atoms"):
            share(model or vqa.MODEL, "vlm")
        elif name == "hps":
            model = skeletons.open_clip_model("ViT-H-14", dtype)
            hold(name, name, model, model.encode_image)
        elif name == "image_reward":
            hold(name, name, *_image_reward(dtype))
    return list(readers.values()), heads


def _aesthetic(model: str | None) -> tuple[nn.Module, str]:
    """An aesthetic head and the name of its encoder, as `aesthetic.load`; the published one has five layers."""
    if model is None or model == aesthetic.MODEL:
        sizes = [768, 1024, 128, 64, 16, 1]
        with skeletons.UNALLOCATED:
            return nn.Sequential(*map(nn.Linear, sizes[:-1], sizes[1:])), aesthetic.ENCODERS[768]
    head, named = aesthetic.read_head(model)  # some megabytes
    return head, named or aesthetic.ENCODERS[next(head.parameters()).shape[1]]


def _picture_size(model: nn.Module) -> int:
    """Of the pictures that an encoder reads, in pixels."""
    if hasattr(model, "visual"):  # open_clip's
        size = model.visual.image_size
        return size[0] if isinstance(size, tuple) else size
    vision = model[0].config if isinstance(model, nn.ModuleList) else model.config.vision_config
    return vision.image_size


def _image_reward(dtype: torch.dtype) -> tuple[nn.Module, Callable]:
    """BLIP's towers as ImageReward has them: ViT-L/16, and BERT's base that reads pictures. Its head is small."""
    with skeletons.UNALLOCATED:
        vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224
            )
        )
        text = BlipTextModel(
            BlipTextConfig(vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072),
            add_pooling_layer=False,
        )
    return nn.ModuleList([vision, text]).to(dtype), vision


# --- a run's numbers ---------------------------------------------------------------------------------------------


def _schedule(
    arguments: "QueryArguments", rewards: RewardArguments, config: PPOConfig | GRPOConfig | RLOOConfig, of_a_prompt: int
) -> dict[str, str]:
    """Iterations, rewrites and pictures; those of plain prompts are drawn once, where rewrites are compared to them."""
    steps, prompts = config.steps_per_iteration, config.rollouts // of_a_prompt
    written = sum(config.wrote(config.rollouts))
    beside = f", beside {config.plain_completions:,} plain of each" if config.plain_completions else ""
    known = config.max_steps > 0  # else by passes over the data, whose size is not known here
    iterations = math.ceil(config.max_steps / steps) if known else 0
    counts = {
        "an iteration": f"{written:,} rewrites of {prompts:,} prompts{beside}, {steps:,} optimizer steps of "
        f"{written * config.minibatch_size // config.rollouts:,} rewrites",
        "on each process": f"{written // config.world_size:,} rewrites; of a step "
        f"{config.gradient_accumulation_steps:,} x {config.per_device_train_batch_size:,}",
        "iterations": f"{iterations:,}, {config.max_steps:,} optimizer steps" if known else "by num_train_epochs",
    }
    held_out = f"{arguments.eval_samples:,} prompts" if arguments.eval_samples else ""
    if not arguments.reward_func:
        k = rewards.images_per_prompt
        capped = any(part.cap == PLAIN for part in rewards.parts)
        relative = rewards.preset.relative != "none" or capped or rewards.judge or config.plain_completions
        plain = prompts * iterations
        if not rewards.fresh_seeds:  # a prompt that comes again has the pictures that it had
            plain = min(plain, arguments.max_queries or plain)
        drawn = prompts * max(1, round(rewards.draw_fraction * written / prompts))
        held_out += f" and {arguments.eval_samples * k:,} pictures (thrice the first time)" if held_out else ""
        fewer = f" ({(config.rollouts - written) * k:,} fewer for the plain ones)" if config.plain_completions else ""
        counts["pictures of an iteration"] = f"{drawn * k:,}{fewer}" + (
            f", and up to {prompts * k:,} of plain prompts that are new" if relative else ""
        )
        if known:
            counts["pictures"] = f"{drawn * iterations * k:,}" + (
                f", and up to {plain * k:,} of plain prompts" if relative else ""
            )
    return counts | _events(config, config.max_steps, held_out, steps)


def _events(config: TrainingArguments, steps: int, held_out: str, iteration: int | None = None) -> dict[str, str]:
    """What is evaluated and saved when."""

    def every(interval: float | None) -> str:
        interval = int(interval) if interval and interval >= 1 else math.ceil((interval or 0) * max(0, steps)) or 1
        shown = f"every {counted(interval, 'step')}"
        if iteration:
            shown += f" ({interval / iteration:g} iteration{'s' * (interval != iteration)})"
        if steps < 1:
            return shown
        return f"{shown}, {counted(steps // interval, 'time')}" if steps >= interval else ""

    def when(strategy, interval: float | None) -> str:
        return {"no": "", "epoch": "after each pass over the data"}.get(strategy.value, every(interval))

    evaluated = ", and ".join(filter(None, (when(config.eval_strategy, config.eval_steps), "at the end")))
    saved = when(config.save_strategy, config.save_steps)
    window = ", and those of the judge's window" if getattr(config, "stop_on_overoptimization", False) else ""
    return {
        "evaluation": f"{held_out}: {evaluated}" if held_out else "none",
        "checkpoints": (saved or ("at the end" if config.save_strategy.value == "steps" else "never"))
        + (f", the last {config.save_total_limit} stay{window}" if saved and config.save_total_limit else ""),
    }


def _saves(config: TrainingArguments, steps: int) -> int:
    """Checkpoints on the disk at once: the new one is whole before an old one goes, and the best one may stay."""
    if config.save_strategy.value == "no":
        return 0
    most = config.save_total_limit + 1 if config.save_total_limit else None
    if most and getattr(config, "stop_on_overoptimization", False) and config.save_steps >= 1:
        # Those of the judges' window stay, and the one before it.
        most += math.ceil(config.judge_window * config.steps_per_iteration / config.save_steps) + 1
    if config.save_strategy.value == "steps" and steps > 0 and config.save_steps >= 1:
        made = math.ceil(steps / config.save_steps)
        return min(made, most) if most else made
    return most or 1


def _notes(arguments: "QueryArguments", rewards: RewardArguments) -> list[str]:
    """What is somebody else's, of which nothing is known: functions of the user's own, and servers."""
    functions = [arguments.reward_func] if arguments.reward_func else rewards.own_functions
    servers = [] if arguments.reward_func else read_urls(read_generator(rewards.generator)[0])
    return [f"Not counted: what {name} takes." for name in (*functions, *servers)]

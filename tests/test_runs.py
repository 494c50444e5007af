"""What a run derives from its config: the same optimisation on any number of processes, under any launcher.

And what it refuses before anything is loaded, in one line.
"""

import inspect
import math
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import TrainingArguments
from trl import ModelConfig

from neuroprompt.data import DataConfig
from neuroprompt.images import RemoteConfig
from neuroprompt.ppo.config import GRPOConfig, PPOConfig, RLOOConfig
from neuroprompt.runs import arguments, sizes, start
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.sft import SFTArguments, SFTConfig

ROOT = Path(__file__).parents[1]
ACCELERATE = sorted((ROOT / "configs/accelerate").glob("*.yaml"))
TRAININGS = {
    "sft": [(SFTArguments, DataConfig, SFTConfig, ModelConfig)],
    "ppo": [(QueryArguments, RewardArguments, PPOConfig, ModelConfig)],
    "grpo": [(QueryArguments, RewardArguments, c, ModelConfig) for c in (GRPOConfig, RLOOConfig)],
}
CONFIGS = [
    pytest.param(path, classes, id=f"{classes[2].__name__}-{path.stem}")
    for folder, several in TRAININGS.items()
    for path in sorted((ROOT / "configs" / folder).glob("*.yaml"))
    for classes in several
]


def launched(monkeypatch, count, accelerate=None):
    """As if `accelerate launch --config_file accelerate` had started so many processes."""
    monkeypatch.setattr(sizes, "processes", lambda: count)
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda self: count))
    if accelerate is None:
        return
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", accelerate["mixed_precision"])
    if settings := accelerate.get("deepspeed_config"):
        monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        for name, value in settings.items():
            name = name.removesuffix("_flag")
            monkeypatch.setenv(
                f"ACCELERATE_{name.upper()}" if "gradient" in name else f"ACCELERATE_DEEPSPEED_{name.upper()}",
                str(value).lower(),
            )


def read(path, classes, *arguments):
    parsed = read_arguments(classes, "", ["--config", str(path), "--use_cpu", "true", *arguments])
    return next(part for part in parsed if isinstance(part, TrainingArguments))


def counts(config):
    """What must not depend on the number of processes."""
    names = ("minibatch_size", "max_steps", "num_train_epochs", "eval_strategy", "eval_steps", "save_strategy")
    names += ("save_steps", "logging_steps", "rollouts", "steps_per_iteration")
    return {name: getattr(config, name, None) for name in names}


@pytest.mark.parametrize("accelerate", ACCELERATE, ids=lambda path: path.stem)
@pytest.mark.parametrize(("path", "classes"), CONFIGS)
def test_every_config_under_every_launcher_on_1_to_16_processes(path, classes, accelerate, monkeypatch):
    settings = yaml.safe_load(accelerate.read_text())
    if "deepspeed_config" in settings:
        pytest.importorskip("deepspeed")
        from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config
    with monkeypatch.context() as alone:
        launched(alone, 1)
        expected = read(path, classes)
    assert expected.gradient_accumulation_steps * expected.per_device_train_batch_size == expected.minibatch_size
    for count in (1, 2, 4, 8, 16):
        with monkeypatch.context() as context:
            launched(context, count, settings)
            config = read(path, classes)
            assert counts(config) == counts(expected)
            assert config.mixed_precision == ("bf16" if config.bf16 else "no")  # the training's config decides
            assert config.per_device_train_batch_size <= config.rows_at_once == expected.rows_at_once
            share = config.per_device_train_batch_size * config.gradient_accumulation_steps
            assert share * count == config.minibatch_size
            if config.deepspeed_plugin:
                filled = HfTrainerDeepSpeedConfig(config.deepspeed_plugin.deepspeed_config)
                filled.trainer_config_process(config)
                assert not filled.mismatches and filled.config["train_batch_size"] == config.minibatch_size
                unset_hf_deepspeed_config()


def test_counts_of_the_published_configs():
    """On one process they are what the tables of README were made with."""
    config = read(ROOT / "configs/ppo/embedded.yaml", TRAININGS["ppo"][0])
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (32, 1)
    assert (config.steps_per_iteration, config.max_steps, config.eval_steps, config.save_steps) == (8, 320, 80, 80)
    config = read(ROOT / "configs/grpo/embedded.yaml", TRAININGS["grpo"][0])
    assert (config.per_device_train_batch_size, config.steps_per_generation, config.max_steps) == (32, 4, 320)


@given(st.integers(1, 64), st.integers(1, 40), st.integers(0, 100))
def test_as_many_at_once_as_there_may_be(share, count, at_once):
    with pytest.MonkeyPatch.context() as context:
        launched(context, count)
        config = PPOConfig(
            "run",
            minibatch_size=share * count,
            rollout_batch_size=share * count,
            per_device_train_batch_size=at_once,
            use_cpu=True,
            report_to="none",
        )
    rows = config.per_device_train_batch_size
    assert rows * config.gradient_accumulation_steps == share and rows <= max(1, at_once)
    assert not any(share % more == 0 for more in range(rows + 1, min(share, at_once) + 1))


@given(st.integers(1, 300), st.integers(2, 40))
def test_what_cannot_be_shared_is_said_with_what_can(minibatch, count):
    assume(minibatch % count)
    with pytest.raises(ValueError, match=f"minibatch_size is {minibatch}, which {count} process") as error:
        sizes.share_equally(minibatch, count)
    fitting = str(error.value).split("(")[2].split(")")[0].split(", ")
    assert [int(n) for n in fitting] == [n for n in range(1, minibatch + 1) if minibatch % n == 0]
    assert "\n" not in str(error.value)


def test_without_a_minibatch_size_it_is_as_in_any_trainer(monkeypatch):
    launched(monkeypatch, 4)
    config = PPOConfig("run", per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True)
    assert (config.minibatch_size, config.rollout_batch_size, config.steps_per_iteration) == (16, 64, 16)
    assert config.logging_steps == 16
    config = GRPOConfig("run", per_device_train_batch_size=8, gradient_accumulation_steps=2, use_cpu=True, bf16=False)
    assert (config.rollouts, config.steps_per_iteration, config.generation_batch_size) == (64, 1, 64)


def test_the_length_of_a_run():
    settings = {
        "output_dir": "run",
        "rollout_batch_size": 64,
        "minibatch_size": 8,
        "use_cpu": True,
        "report_to": "none",
    }
    assert PPOConfig(**settings, total_episodes=100).max_steps == math.ceil(100 / 64) * 4 * 8
    assert PPOConfig(**settings, total_episodes=100, max_steps=2).max_steps == 2  # which comes first, as in `Trainer`
    assert PPOConfig(**settings).max_steps == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatch_size": 16, "gradient_accumulation_steps": 4}, "it follows from minibatch_size"),
        ({"minibatch_size": 12}, "rollout_batch_size is 64: it must be a multiple of 12"),
        ({"minibatch_size": 0}, "minibatch_size is 0"),
        ({"eval_iterations": 2, "eval_steps": 7}, "eval_steps is 7 and eval_iterations 2, which is 64 steps"),
        ({"save_iterations": 0}, "save_iterations is 0"),
    ],
)
def test_what_contradicts_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig("run", use_cpu=True, report_to="none", **changes)


def test_processes_that_never_met(monkeypatch):
    """As where a cluster's scheduler sets WORLD_SIZE, and nothing was launched."""
    monkeypatch.setattr(sizes, "processes", lambda: 2)
    with pytest.raises(ValueError, match=r"says 2 process\(es\), and torch finds 1"):
        PPOConfig("run", use_cpu=True, report_to="none")


# --- a generator's settings ---------------------------------------------------------------------------------------

REWARDS = (QueryArguments, RewardArguments)


def test_a_generator_is_a_name_or_a_name_with_settings(tmp_path):
    def generator(text, *words):
        (tmp_path / "a.yaml").write_text(text)
        return read_arguments(REWARDS, "", ["--config", str(tmp_path / "a.yaml"), *words])[1].generator

    assert generator("generator: org/turbo") == "org/turbo"
    assert generator("generator: org/turbo", "--generator", "org/other") == "org/other"
    assert generator("rewards: pickscore", "--generator.steps", "4") == {"name": "embedded", "steps": 4}
    nested = "generator: {name: org/turbo, steps: 1, size: 768x512}"
    assert generator(nested) == {"name": "org/turbo", "steps": 1, "size": "768x512"}
    other = {"name": "org/other", "steps": 1, "size": "768x512"}  # the name alone is replaced
    assert generator(nested, "--generator", "org/other") == other
    words = "--generator.steps=2 --generator.size 64 --generator.compile true --generator.negative".split()
    assert generator(nested, *words, "a: b") == {
        "name": "org/turbo",
        "steps": 2,
        "size": "64",
        "compile": True,
        "negative": "a: b",  # YAML's signs are text in a text
    }


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("generator: {stesp: 4}", [], "generator has no setting 'stesp': 'steps'?"),
        ("generator: [a]", [], "generator is ['a']: write a name, or {name: NAME, steps: 4, …}"),
        ("generator.steps: 4", [], "a.yaml: there is no argument 'generator.steps': 'generator'?"),
        ("rewards: clip", ["--generator.stesp", "4"], "there is no argument 'generator.stesp': 'generator.steps'?"),
        ("rewards: clip", ["--generator.steps", "many"], "steps is 'many': give a whole number from 1 up"),
        ("image_size: 64", [], "a.yaml: there is no argument 'image_size': write generator: {size: …}, or --gen"),
        ("rewards: clip", ["--generator_dtype=float32"], "write generator: {dtype: …}, or --generator.dtype"),
    ],
)
def test_what_is_wrong_with_a_generators_settings(text, words, message, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match="^.*" + re.escape(message)) as error:
        read_arguments(REWARDS, "", ["--config", str(tmp_path / "a.yaml"), *words])
    assert "\n" not in str(error.value)


def test_help_says_what_every_argument_is(capsys):
    with pytest.raises(SystemExit):
        read_arguments((*REWARDS, PPOConfig), "Train.", ["--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert "--generator.stepsGENERATOR.STEPSThenumberofdenoisingsteps." in shown
    for kind in (RewardArguments, RemoteConfig):
        told = arguments.described(kind)
        assert set(told) == {field.name for field in fields(kind)}
        assert all("".join(text.split()) in shown and text.endswith(".") for text in told.values())


def test_every_setting_says_what_it_is_in_a_sentence():
    for kind in {kind for several in TRAININGS.values() for classes in several for kind in classes} | {RemoteConfig}:
        told = arguments.described(kind)
        for base in kind.__mro__:
            if base.__module__.startswith("neuroprompt"):
                for name in inspect.get_annotations(base).keys() & {field.name for field in fields(kind)}:
                    text = told.get(name, "")
                    assert text[:1].isupper() or text[:1] in "βγλε`", (kind, name, text)
                    assert text.endswith(".") and not text.startswith(("Of ", "Likewise")), (kind, name, text)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("scripts/prepare_data.py", "The folder to write"),
        ("training/sft.py", "The Jaccard similarity of word sets from which two prompts count as one."),
        ("training/ppo.py", "β, what a nat of divergence from the reference costs"),
        ("training/grpo.py", "How many completions the whole run has"),
    ],
)
def test_help_is_whole(script, said, monkeypatch, capsys):
    """Percent signs in a text would end it with an error; an argument without a text says nothing."""
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    shown = " ".join(capsys.readouterr().out.split())
    assert not end.value.code
    assert said in shown


# --- one line, before anything is loaded --------------------------------------------------------------------------


def enter(monkeypatch, capsys, kind, *arguments):
    """The exit code of an entry point, and what it wrote to standard error."""
    monkeypatch.setattr(sys, "argv", [f"training/{kind}.py", *map(str, arguments)])
    monkeypatch.delenv("NEUROPROMPT_TRACEBACK", raising=False)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "training" / f"{kind}.py"), run_name="__main__")
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sft", "ppo", "grpo"])
def test_what_is_wrong_with_the_arguments(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good = ["--config", ROOT / "configs" / kind / "embedded.yaml", "--output_dir", "run", "--bf16", "false"]
    files = {
        "misspelt.yaml": "learning_rat: 1",
        "broken.yaml": "a: [1,\nb",
        "list.yaml": "- a",
        "latin.yaml": "output_dir: caf\xe9",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    cases = [
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["--config"], "--config takes a YAML file"),
        (["--config", "misspelt.yaml"], "misspelt.yaml: there is no argument 'learning_rat': 'learning_rate'?"),
        (["--config", "broken.yaml"], "broken.yaml is no YAML"),
        (["--config", "list.yaml"], "Config file list.yaml must contain a YAML mapping"),
        (["--config", "latin.yaml"], "latin.yaml is no YAML"),
        ([*good, "--minibatch_sise", "3"], "there is no argument 'minibatch_sise': 'minibatch_size'?"),
        ([*good, "--max_steps", "many"], "argument --max_steps/--max-steps: invalid int value: 'many'"),
        ([*good, "--minibatch_size", "0"], "minibatch_size is 0"),
        ([*good, "--model_name_or_path", "./nothing"], "there is no folder"),
        ([*good, "--model_name_or_path", "runs/of/old"], "there is no folder 'runs/of/old': train"),
        ([*good, "--dtype", "bfloat16", "--use_peft", "false"], "dtype is bfloat16"),
        ([*good, "--report_to", "clearml"], "report_to is clearml, which is not installed: pip install clearml"),
    ]
    for words, message in cases:
        code, error = enter(monkeypatch, capsys, kind, *words)
        assert code == 2 and f"error: {message}" in error and error.count("\n") == 1, (words, error)
    assert {f.name for f in tmp_path.iterdir()} == set(files)  # nothing was begun


def test_missing_data_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "run `python scripts/prepare_data.py --source FILE_OR_HUB_DATA_SET --output data/mine` first"
    for kind in ("ppo", "grpo"):
        config = ["--config", ROOT / "configs" / kind / "embedded.yaml", "--queries", "data/mine"]
        code, error = enter(monkeypatch, capsys, kind, *config, "--reward_func", "math:sqrt")
        assert code == 2 and f"error: there is no folder data/mine: {command}" in error
    config = ["--config", ROOT / "configs/sft/embedded.yaml", "--model_name_or_path", "embedded", "--bf16", "false"]
    code, error = enter(monkeypatch, capsys, "sft", *config, "--data_dir", "data/mine", "--source", "")
    assert code == 2 and f"error: there is no data/mine, and no source to make it from: {command}" in error


@pytest.mark.parametrize("missing", ["tensorboard", "peft", "deepspeed"])
def test_a_package_that_is_not_there(missing, monkeypatch, capsys):
    """As after a plain `pip install neuroprompt`."""
    there = start.find_spec
    for module in (arguments, start):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else there(name))
    if missing == "tensorboard":
        monkeypatch.setattr(start, "get_available_reporting_integrations", list)
    if missing == "deepspeed":
        monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for kind in ("sft", "ppo", "grpo"):
        config = ["--config", ROOT / "configs" / kind / "embedded.yaml", "--bf16", "false", "--use_peft", "true"]
        code, error = enter(monkeypatch, capsys, kind, *config, "--report_to", "tensorboard")
        extra = "deepspeed" if missing == "deepspeed" else "train"
        assert code == 2 and f'pip install "neuroprompt[{extra}]"' in error and error.count("\n") == 1


def test_a_folder_has_one_run_at_a_time(tmp_path, monkeypatch, capsys):
    script = f"from neuroprompt.files import sole_writer\nwith sole_writer({str(tmp_path / 'run')!r}, inside=True):\n"
    script += "    print('begun', flush=True)\n    input()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"begun\n"
        for kind in ("sft", "ppo", "grpo"):
            config = ["--config", ROOT / "configs" / kind / "embedded.yaml", "--bf16", "false"]
            config += ["--model_name_or_path", "embedded", "--output_dir", tmp_path / "run"]
            config += [] if kind == "sft" else ["--reward_func", "math:sqrt"]
            code, error = enter(monkeypatch, capsys, kind, *config)
            assert code == 2 and f"is being written by process {other.pid}" in error
    finally:
        other.communicate(b"\n")

"""What is rehearsed: every config and every documented command, as it stands there, with less of everything.

What a step adds to its command is fewer steps and less data (`SMALL`), and the CPU where a config asks for a GPU. All
else is the config's: models and data sets under their published names, rewards, number of pictures a prompt, precision,
adapters, reports.
"""

import json
import shlex
from pathlib import Path

from safetensors import safe_open

from neuroprompt.data import SPLITS, split_of
from neuroprompt.formats import FILE as FORMAT_FILE
from neuroprompt.formats import RETELL, PromptFormat
from tests.checkpoints.datasets import SUBJECTS
from tests.rehearsal.documents import documented_reward
from tests.rehearsal.runner import Step

SMALL = {
    "data": "--num_proc 1",
    "sft": "--max_steps 2 --minibatch_size 2 --save_steps 2 --eval_strategy no --eval_samples 2 "
    "--sample_prompts 'a castle' --dataset_num_proc none --use_cpu true",
    "ppo": "--total_episodes 8 --rollout_batch_size 8 --minibatch_size 8 --num_ppo_epochs 1 --max_new_tokens 8 "
    "--max_queries 64 --eval_samples 2 --eval_iterations 1 --save_iterations 1 --generator.steps 1 --use_cpu true",
    "grpo": "--total_episodes 8 --generation_batch_size 8 --minibatch_size 8 --num_iterations 1 "
    "--max_completion_length 8 --max_queries 64 --save_iterations 1 --generator.steps 1 --use_cpu true",
}
UNEVALUATED = "--eval_samples 0"  # where another step evaluates the same config
DRAW = "--images-per-prompt 1 --steps 1"
_SFT = (
    "max_steps: 2, minibatch_size: 2, save_steps: 2, eval_strategy: 'no', load_best_model_at_end: false, use_cpu: true"
)
_PPO = (
    "total_episodes: 8, rollout_batch_size: 8, minibatch_size: 8, num_ppo_epochs: 1, max_new_tokens: 8, "
    "eval_samples: 2, eval_iterations: 1, save_iterations: 1, use_cpu: true"
)
CPU = "--generator.dtype float32 --reward_dtype float32"  # which knows no float16, and is slow at bfloat16

NOT_REHEARSED = {
    "make ": "what installs and starts the rest",
    "pip ": "the environment of this rehearsal is what it brings",
    "python benchmarks/": "a benchmark",
    "python -m timeit": "likewise",
    "python -m training.embedded.images": "the suite runs it in small: tests/training/test_embedded_images.py",
    "python training/embedded/images/build_images.py": "wants npm packages: tests/training/test_embedded_images.py",
    "python scripts/rehearse.py": "this is it",
    "neuroprompt serve": "runs until it is stopped: tests/server starts it by the command line, tests/rewards "
    "serve-rewards",
    "neuroprompt votes export": "wants votes that people cast: tests/server/test_votes.py",
    "neuroprompt mcp": "runs until its client ends it: tests/test_mcp.py",
    "neuroprompt enhance 'ohwx woman, a sign that says \"OPEN\"' --model retell": "its adapter fits the real model "
    "and no tiny one: tests/test_policies.py has the names and shapes, tests/test_retelling.py what retelling comes to",
    "python -m training.embedded.evaluate_retelling": "likewise",
    "python -m training.embedded.reading": "rewrites the repository's own document: tests/training/test_reading.py",
    "accelerate launch --config_file configs/accelerate/multi_": "several GPUs; tests/test_runs.py works out what each "
    "config comes to on 1 to 16 processes, and two of them are rehearsed",
    "accelerate launch --multi_gpu": "likewise",
    "torchrun --nproc_per_node 2 scripts/study.py": "the suite runs shards: tests/evaluation/test_study.py",
    "neuroprompt evaluate --input configs/ppo/queries/test.txt:200 --methods plain,suffix,random,": "wants the six "
    "policies of the README's table; its parts are rehearsed",
    "neuroprompt evaluate --input configs/ppo/queries/test.txt:300 --methods plain,suffix,policy:embedded,": "wants "
    "the three policies of docs/faithfulness.md; likewise",
    "accelerate launch training/ppo.py --config configs/ppo/embedded_faithful.yaml --seed": "the same without a seed "
    "is rehearsed",
    "neuroprompt evaluate --input configs/ppo/queries/test.txt:300 --steps 4 --images-per-prompt 2": "wants the "
    "policies of docs/results.md; likewise",
    "accelerate launch training/ppo.py --config configs/ppo/embedded_gpu.yaml --seed": "the same without a seed is "
    "rehearsed",
    "neuroprompt suffix --input configs/ppo/queries/train.txt --budget 51200": "the same with fewer pictures is "
    "rehearsed",
    "python training/distil.py --config configs/distil/embedded_gpu.yaml --suffix": "the same without a suffix is "
    "rehearsed, and tests/search/test_proposals.py has what a suffix changes",
    "neuroprompt questions --input prompts.txt --ask": "wants a chat model: tests/questions/test_question_chat.py",
    "neuroprompt grid 'boy on a horse' --generator http": "servers that draw: tests/images/remote/test_remote.py",
    "neuroprompt image 'a castle' --generator http": "likewise",
    "neuroprompt score --prompt 'boy on a horse' --rewards http": "servers that judge: "
    "tests/rewards/test_behind_a_url.py",
    "accelerate launch training/ppo.py --config configs/ppo/gpt2_sd15_pickscore.yaml --rewards http": "likewise",
    "accelerate launch training/ppo.py --config configs/ppo/gpt2_sd15_pickscore.yaml --generator http": "likewise",
}
"""Beginnings of documented commands that are left out, and why."""


DSG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
x_1,a red fox,fox,1,0,entity,whole,entity - whole (fox),Is there a fox?
x_1,a red fox,"fox, red",2,1,attribute,color,"attribute - color (fox, red)",Is the fox red?
"""


def write_inputs(work: Path) -> None:
    """The files of a user that documented commands name."""
    import pandas as pd

    (work / "prompts.txt").write_text("\n".join(SUBJECTS[:2]) + "\n")
    (work / "my_style.txt").write_text("Describe it as the first line of a novel would.\n")
    (work / "my_file.py").write_text(documented_reward())
    (work / "dsg-1k-anns.csv").write_text(DSG)
    pd.DataFrame({"prompt": SUBJECTS[:2], "class": ["animal", "thing"]}).to_csv(work / "prompts.csv", index=False)
    (work / "downloads/geneval/prompts").mkdir(parents=True)
    single = {"tag": "single_object", "include": [{"class": "boat", "count": 1}]}
    pd.DataFrame([single | {"prompt": subject} for subject in SUBJECTS[:2]]).to_json(
        work / "downloads/geneval/prompts/evaluation_metadata.jsonl", orient="records", lines=True
    )
    scenes = [
        f"a {animal} sitting under an old {tree} in a valley, soft lighting, watercolor"
        for animal in ("fox", "cat", "dog", "swan")  # of which some are held out
        for tree in ("oak", "pine", "willow")
    ]
    pd.DataFrame({"prompt": scenes}).to_parquet(work / "prompts.parquet")
    pd.DataFrame({"prompt": scenes}).to_json(work / "prompts.jsonl", orient="records", lines=True)
    splits = ([prompt for prompt in SUBJECTS if split_of(prompt) == split] for split in SPLITS)
    (work / "few.txt").write_text("".join(f"{prompt}\n" for split in splits for prompt in split[:4]))


def steps() -> list[Step]:
    return [*_from_hub_to_policy(), *_own_policy(), *_embedded(), *_retelling(), *_peers(), *_launched(), *_commands()]


def _distilled(sft: str, ppo: str, processes: int = 1) -> str:
    """What is changed of a distillation: few prompts and pictures, every find is learnt, and trainings are as small as
    those by themselves."""
    settings = {
        "sft": f"{{config: configs/sft/{sft}.yaml, {_SFT}}}",
        "ppo": f"{{config: configs/ppo/{ppo}.yaml, {_PPO}}}",
    }
    stages = " ".join(f"--{stage} {shlex.quote(text)}" for stage, text in settings.items())
    return (
        f"--max_queries 8 --budget 4 --samples 1 --errors 0 --least -99 --validation_share 0.5 "
        f"--generator.steps 1 --device cpu --search_processes {processes} {stages}"
    )


def _from_hub_to_policy() -> list[Step]:
    """docs/gpu.md: data, SFT, PPO or GRPO, and what a trained policy is used for, on the published models."""
    policy = "runs/gpt2_sd15_pickscore"
    sd15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    return [
        Step(
            "prepare_data",
            "python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only "
            "--output data/diffusiondb",
            makes=("data/diffusiondb/README.md", "data/diffusiondb/pairs", "data/diffusiondb/plain"),
        ),
        Step(
            "the plan",
            "accelerate launch training/ppo.py --config configs/ppo/gpt2_sd15_pickscore.yaml "
            "--model_name_or_path openai-community/gpt2 --dry_run",
        ),
        Step(
            "prepare_data (Gustavosta)",
            "python scripts/prepare_data.py --source Gustavosta/Stable-Diffusion-Prompts --output data/gustavosta",
            SMALL["data"],
            makes=("data/gustavosta/pairs",),
        ),
        *(
            Step(
                f"sft/{name}",
                f"accelerate launch training/sft.py --config configs/sft/{name}.yaml",
                f"{SMALL['sft']} --eval_strategy steps --eval_steps 2",
                after=("prepare_data",),
                makes=(f"{run}/model.safetensors", f"{run}/samples.jsonl", f"{run}/log_history.json"),
                check=_is_plain_policy(run),
            )
            for name, run in (("gpt2_diffusiondb", "runs/gpt2_diffusiondb/sft"), ("smollm2", "runs/smollm2/sft"))
        ),
        *(
            Step(
                f"{kind}/{name}",
                f"accelerate launch training/{kind}.py --config configs/{kind}/{name}.yaml",
                f"{SMALL[kind]} {CPU}",
                after=(f"sft/{sft}",),
                makes=(f"{run}/model.safetensors", f"{run}/log_history.json"),
                check=_is_plain_policy(run),
            )
            for kind, name, sft, run in (
                ("ppo", "gpt2_sd15_pickscore", "gpt2_diffusiondb", policy),
                ("ppo", "gpt2_sd15_promptist", "gpt2_diffusiondb", "runs/gpt2_sd15_promptist"),
                ("ppo", "smollm2_sdxl_turbo", "smollm2", "runs/smollm2_sdxl_turbo"),
                ("ppo", "smollm2_sdxl_turbo_faithful", "smollm2", "runs/smollm2_sdxl_turbo_faithful"),
                ("grpo", "gpt2_sd15_pickscore", "gpt2_diffusiondb", "runs/gpt2_sd15_pickscore_grpo"),
            )
        ),
        Step(
            "distil/gpt2_sd15",
            "python training/distil.py --config configs/distil/gpt2_sd15.yaml",
            # What a tiny random policy writes is no word, and no find.
            f"{_distilled('gpt2_distilled', 'gpt2_sd15_pickscore')} {CPU} --policy embedded",
            after=("sft/gpt2_diffusiondb",),  # whose prompts it searches
            makes=tuple(f"runs/gpt2_sd15_distilled/{stage}/model.safetensors" for stage in ("sft", "ppo")),
        ),
        Step(
            "ppo, resumed",
            "accelerate launch training/ppo.py --config configs/ppo/gpt2_sd15_pickscore.yaml "
            "--resume_from_checkpoint true",
            f"{SMALL['ppo']} {CPU} --total_episodes 16",
            after=("ppo/gpt2_sd15_pickscore", "enhance with it"),
            check=_has_steps(policy, 2),
        ),
        Step(
            "enhance with it",
            f'neuroprompt enhance "boy on a horse" --model {policy}',
            after=("ppo/gpt2_sd15_pickscore",),
        ),
        Step(
            "evaluate with it",
            f"neuroprompt evaluate --input partiprompts:200 --methods plain,policy:runs/gpt2_diffusiondb/sft,"
            f"policy:{policy} --generator {sd15} --rewards pickscore,aesthetic:0,clip:0,hps:0,image_reward:0 "
            "-o results/gpt2_sd15_pickscore",
            f"{DRAW} --input partiprompts:2",
            after=("ppo, resumed",),
            makes=("results/gpt2_sd15_pickscore/report.html",),
        ),
        Step(
            "grid with it",
            f'neuroprompt grid "boy on a horse" "a castle" --methods plain,policy:{policy} --generator {sd15} '
            "-o grid_sd15.png",
            DRAW,
            after=("ppo, resumed",),
            makes=("grid_sd15.png",),
        ),
    ]


def _own_policy() -> list[Step]:
    """docs/training.md: a policy of one's own, without a hub and a GPU."""
    return [
        Step(
            "own: prompts",
            'neuroprompt enhance --input configs/ppo/queries/train.txt --format "oil painting" --output expert.jsonl',
            "--input few.txt",
            makes=("expert.jsonl",),
        ),
        Step(
            "own: data",
            "python scripts/prepare_data.py --source expert.jsonl --column text --output data/mine",
            SMALL["data"],
            after=("own: prompts",),
            makes=("data/mine/pairs/validation",),
        ),
        Step(
            "own: data to retell",
            "python scripts/prepare_data.py --source expert.jsonl --column text --format retell "
            "--output data/mine-retold",
            SMALL["data"],
            after=("own: prompts",),
            makes=("data/mine-retold/pairs",),
        ),
        Step(
            "own: SFT",
            "accelerate launch training/sft.py --config configs/sft/embedded.yaml --model_name_or_path embedded "
            "--data_dir data/mine --minibatch_size 64 --max_steps 300 --warmup_steps 30 --output_dir runs/mine",
            SMALL["sft"],
            after=("own: data",),
            makes=("runs/mine/model.safetensors",),
            check=_is_plain_policy("runs/mine"),
        ),
        Step("own: enhance", 'neuroprompt enhance "boy on a horse" --model runs/mine', after=("own: SFT",)),
        Step(
            "own: PPO",
            "accelerate launch training/ppo.py --config configs/ppo/embedded.yaml --model_name_or_path runs/mine "
            "--output_dir runs/mine-ppo",
            f"{SMALL['ppo']} {UNEVALUATED}",
            after=("own: SFT",),
            makes=("runs/mine-ppo/model.safetensors",),
            check=_is_plain_policy("runs/mine-ppo"),
        ),
    ]


def _embedded() -> list[Step]:
    """training/embedded/README.md, and the configs on the embedded models."""
    return [
        Step(
            "embedded: all prompts",
            "python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only "
            "--min_modifiers 1 --max_per_tail 500 --evaluation_files configs/ppo/queries/test.txt "
            "--output data/embedded-wide",
            SMALL["data"],
            makes=("data/embedded-wide/pairs",),
        ),
        Step(
            "embedded: data",
            "python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only "
            "--min_modifiers 3 --evaluation_files configs/ppo/queries/test.txt --output data/embedded",
            f"--min_modifiers 2 {SMALL['data']}",
            makes=("data/embedded/pairs",),
        ),
        Step(
            "embedded: prose",
            "python -m training.embedded.retelling --source prompts.parquet --output data/prose.jsonl",
            makes=("data/prose.jsonl",),
        ),
        Step(
            "embedded: data to retell",
            "python scripts/prepare_data.py --source data/prose.jsonl --format retell "
            "--evaluation_files configs/ppo/queries/test.txt --output data/retelling",
            SMALL["data"],
            after=("embedded: prose",),
            makes=("data/retelling/pairs",),
        ),
        Step(
            "init_policy",
            "python training/embedded/init_policy.py --data data/embedded --output runs/embedded/init",
            "--vocabulary 1000",
            after=("embedded: data",),
            makes=("runs/embedded/init/model.safetensors",),
        ),
        Step(
            "fitting",
            "python scripts/fitting_data.py --data data/embedded --output data/embedded-fitting",
            "--min_modifiers 1",
            after=("embedded: data",),
            makes=("data/embedded-fitting/pairs",),
        ),
        *(
            Step(
                f"sft/{config}",
                f"accelerate launch training/sft.py --config configs/sft/{config}.yaml --resume_from_checkpoint true",
                SMALL["sft"],
                after=after,
                makes=(f"runs/embedded/{run}/model.safetensors",),
                check=_is_plain_policy(f"runs/embedded/{run}"),
            )
            for config, run, after in (
                ("embedded_wide", "wide", ("embedded: all prompts", "init_policy")),
                ("embedded", "sft", ("sft/embedded_wide",)),
                ("embedded_fitted", "fitted", ("fitting", "sft/embedded")),
            )
        ),
        Step(
            "embedded: export",
            "python training/embedded/export_policy.py weights --run runs/embedded/fitted "
            "--output neuroprompt/assets/policy --temperature 0.95 --diversity 0.85 --usual",
            after=("sft/embedded_fitted",),
            makes=("neuroprompt/assets/policy/model.safetensors",),
        ),
        Step(
            "embedded: figures",
            "python -m training.embedded.evaluate_policy --data data/embedded --prompts partiprompts "
            '--output results/policy.json --beside "before its last training=runs/embedded/sft"',
            "--model neuroprompt/assets/policy",
            after=("embedded: export",),
            makes=("results/policy.json",),
        ),
        Step(
            "embedded: card",
            "python training/embedded/export_policy.py card --stage configs/sft/embedded_wide.yaml=runs/embedded/wide "
            "--stage configs/sft/embedded.yaml=runs/embedded/sft "
            "--stage configs/sft/embedded_fitted.yaml=runs/embedded/fitted --figures results/policy.json "
            "--prompts partiprompts --output neuroprompt/assets/policy",
            after=("embedded: export", "embedded: figures"),
            makes=("neuroprompt/assets/policy/README.md",),
        ),
        Step(
            "reward_model/embedded",
            "python training/reward_model.py --config configs/reward_model/embedded.yaml",
            "--max_queries 4 --samples 2 --generator.steps 1 --fit_steps 20",
            makes=("runs/embedded/reward_model/reward_model.json",),
        ),
        *(
            Step(
                f"distil/{name}",
                f"python training/distil.py --config configs/distil/{name}.yaml",
                f"{_distilled('embedded_distilled', ppo, processes)} --generator.dtype float32",
                makes=tuple(f"runs/embedded/{folder}/{stage}/model.safetensors" for stage in ("sft", "ppo")),
            )
            for name, ppo, folder, processes in (
                ("embedded", "embedded", "distilled", 2),
                ("embedded_gpu", "embedded_gpu", "distilled-gpu", 1),
            )
        ),
        Step("enhance --rerank, shipped", 'neuroprompt enhance "boy on a horse" --rerank 16'),
        Step(
            "enhance --rerank",
            'neuroprompt enhance "boy on a horse" --rerank 16 --rerank-by runs/embedded/reward_model',
            after=("reward_model/embedded",),
        ),
        Step(
            "evaluate rerank-16",
            "neuroprompt evaluate --input prompts.txt --methods plain,enhanced,best-of-8,rerank-16 "
            "--rerank-by runs/embedded/reward_model -o results/rerank",
            DRAW,
            after=("reward_model/embedded",),
            makes=("results/rerank/report.html",),
        ),
        Step(
            "embedded: PPO",
            "accelerate launch training/ppo.py --config configs/ppo/embedded.yaml "
            "--model_name_or_path runs/embedded/fitted",
            f"{SMALL['ppo']} {UNEVALUATED} --output_dir runs/embedded/ppo-own",
            after=("sft/embedded_fitted",),
            makes=("runs/embedded/ppo-own/model.safetensors",),
        ),
        Step(
            "embedded: export after PPO",
            "python training/embedded/export_policy.py ppo --run runs/embedded/ppo --before runs/embedded/fitted "
            "--output neuroprompt/assets/policy-ppo --diversity 0.85 --temperature 0.7",
            "--run runs/embedded/ppo-own",
            after=("embedded: PPO", "embedded: card"),
            makes=("neuroprompt/assets/policy-ppo/difference.safetensors",),
        ),
        Step(
            "embedded: PPO's figures",
            "neuroprompt evaluate --input configs/ppo/queries/test.txt:300 "
            "--methods plain,policy:embedded,enhanced --against policy:embedded -o results/ppo",
            f"{DRAW} --input configs/ppo/queries/test.txt:3",
            makes=("results/ppo/report.html",),
        ),
        Step(
            "embedded: PPO's card",
            "python training/embedded/export_policy.py ppo-card --run runs/embedded/ppo --figures results/ppo "
            "--output neuroprompt/assets/policy-ppo",
            "--run runs/embedded/ppo-own",
            after=("embedded: export after PPO", "embedded: PPO's figures"),
        ),
        *(
            Step(
                f"{kind}/{name}",
                f"accelerate launch training/{kind}.py --config configs/{kind}/{name}.yaml",
                f"{SMALL[kind]} {CPU}" if name.endswith("gpu") else SMALL[kind],
                makes=(f"runs/embedded/{run}/model.safetensors",),
                check=_is_plain_policy(f"runs/embedded/{run}"),
            )
            for kind, name, run in (
                ("ppo", "embedded", "ppo"),
                ("ppo", "embedded_faithful", "faithful"),
                ("ppo", "embedded_gpu", "ppo-gpu"),
                ("grpo", "embedded", "grpo"),
                ("grpo", "embedded_gpu", "grpo-gpu"),
            )
        ),
        *(
            Step(
                f"ppo, {name}",
                f"accelerate launch training/ppo.py --config configs/ppo/embedded.yaml {guards}",
                f"{SMALL['ppo']} {UNEVALUATED} --output_dir runs/embedded/{name}",
                makes=(f"runs/embedded/{name}/model.safetensors",),
            )
            for name, guards in (
                ("judge", "--judge clip --stop_on_overoptimization true"),
                ("foreseen", "--predictor new --critic predictor --lam 1.0"),
                ("half", "--predictor new --draw_fraction 0.5"),
                ("ranks", "--win_rates true --plain_completions 1 --skip_flat_groups true"),
            )
        ),
        Step(
            "rloo/embedded",
            "accelerate launch training/grpo.py --algorithm rloo --config configs/grpo/embedded.yaml",
            f"{SMALL['grpo']} --output_dir runs/embedded/rloo",
            makes=("runs/embedded/rloo/model.safetensors",),
        ),
    ]


def _retelling() -> list[Step]:
    """docs/retelling.md: chat models that retell prompts, and how they learn it."""
    few = "--total_episodes 2 --generation_batch_size 2 --num_generations 2 --minibatch_size 2 --num_iterations 1"
    return [
        Step(
            "retelling: data",
            "python scripts/prepare_data.py --format retell --source prompts.jsonl --output data/retelling",
            f"{SMALL['data']} --output data/retold",
            makes=("data/retold/pairs",),
        ),
        *(
            Step(
                f"sft/{name}_retell",
                f"accelerate launch training/sft.py --config configs/sft/{name}_retell.yaml",
                f"{SMALL['sft']} --minibatch_size 1 --eval_samples 1",
                after=("embedded: data to retell",),
                makes=(f"runs/{name}_retell/sft/adapter_model.safetensors",),
                check=_retells(f"runs/{name}_retell/sft"),
            )
            for name in ("smollm2", "qwen3")
        ),
        *(
            Step(
                f"{kind}/{name}",
                f"accelerate launch training/{kind}.py --config configs/{kind}/{name}.yaml",
                f"{SMALL[kind]} {CPU} {more}",
                after=(f"sft/{sft}_retell",),
                makes=(f"runs/{name}/model.safetensors",),
                check=_retells(f"runs/{name}"),
            )
            for kind, name, sft, more in (
                ("ppo", "smollm2_retell_sd15", "smollm2", ""),
                ("ppo", "qwen3_retell_sdxl_turbo", "qwen3", ""),
                ("grpo", "qwen3_retell_sd35", "qwen3", f"{few} --generator.size 64"),
            )
        ),
        Step(
            "README: a chat model",
            'neuroprompt enhance "a red fox asleep under an old bridge" --model Qwen/Qwen3-0.6B --for flux',
            "--window 100 --num-beams 2",
        ),
        Step(
            "retelling: an instruction",
            'neuroprompt enhance "boy on a horse" --model Qwen/Qwen3-0.6B --instruction my_style.txt',
            "--window 100 --num-beams 2",
        ),
        Step(
            "README: somebody's model",
            'neuroprompt enhance "boy on a horse" --model configs/peers/promptist.yaml',
        ),
    ]


def _peers() -> list[Step]:
    names = ("promptist", "magicprompt", "chat")
    methods = ",".join(f"template:configs/peers/{name}.yaml" for name in names)
    return [
        Step(
            "peers",
            f"neuroprompt evaluate --input prompts.txt --methods plain,{methods} -o results/peers",
            DRAW,
            makes=("results/peers/report.html",),
        )
    ]


def _launched() -> list[Step]:
    """Several processes, started as the documents start them."""
    return [
        Step(
            "sft, two processes",
            "torchrun --nproc_per_node 2 training/sft.py --config configs/sft/embedded.yaml --use_cpu true",
            f"{SMALL['sft']} --output_dir runs/embedded/sft-2",
            after=("sft/embedded_wide",),
            makes=("runs/embedded/sft-2/model.safetensors",),
        ),
        Step(
            "ppo, two processes",
            "torchrun --nproc_per_node 2 training/ppo.py --config configs/ppo/embedded.yaml",
            f"{SMALL['ppo']} {UNEVALUATED} --output_dir runs/embedded/ppo-2",
            makes=("runs/embedded/ppo-2/model.safetensors",),
        ),
        Step(
            "sft, ZeRO-2",
            "accelerate launch --config_file configs/accelerate/zero2.yaml training/sft.py "
            "--config configs/sft/gpt2_diffusiondb.yaml",
            f"{SMALL['sft']} --output_dir runs/zero2/sft",
            launch="--num_processes 1",
            after=("prepare_data",),
            makes=("runs/zero2/sft/model.safetensors",),
            needs="deepspeed",
            check=_is_plain_policy("runs/zero2/sft"),
        ),
        Step(
            "ppo, ZeRO-2",
            "accelerate launch --config_file configs/accelerate/zero2.yaml training/ppo.py "
            "--config configs/ppo/gpt2_sd15_pickscore.yaml",
            f"{SMALL['ppo']} {CPU} --output_dir runs/zero2/ppo",
            launch="--num_processes 1",
            after=("sft/gpt2_diffusiondb",),
            makes=("runs/zero2/ppo/model.safetensors",),
            needs="deepspeed",
            check=_is_plain_policy("runs/zero2/ppo"),
        ),
        Step(
            "grpo, ZeRO-2",
            "accelerate launch --config_file configs/accelerate/zero2.yaml training/grpo.py "
            "--config configs/grpo/gpt2_sd15_pickscore.yaml",
            f"{SMALL['grpo']} {CPU} --output_dir runs/zero2/grpo",
            launch="--num_processes 1",
            after=("sft/gpt2_diffusiondb",),
            makes=("runs/zero2/grpo/model.safetensors",),
            needs="deepspeed",
            check=_is_plain_policy("runs/zero2/grpo"),
        ),
        Step(
            "evaluate, two processes",
            "torchrun --nproc_per_node 2 -m neuroprompt.cli evaluate --input prompts.txt -o results/mine",
            f"{DRAW} -o results/two",
            makes=("results/two/report.html",),
        ),
    ]


def _commands() -> list[Step]:
    """The other commands of README and documents, word for word."""
    return [
        Step("README: enhance", 'neuroprompt enhance "boy on a horse"'),
        Step("README: enhance, PPO", 'neuroprompt enhance "boy on a horse" --model embedded-ppo'),
        Step("README: variants", 'neuroprompt enhance "boy on a horse" -n 4 --seed 7'),
        Step("README: a file", "neuroprompt enhance --input prompts.txt --output out.jsonl", makes=("out.jsonl",)),
        Step(
            "README: constraints",
            'neuroprompt enhance "boy on a horse" --artist "alphonse mucha" --style baroque --format "oil painting" '
            '--perspective "wide angle" --booster "highly detailed" --vibe cinematic --forbid blurry',
        ),
        Step(
            "README: either of two",
            'neuroprompt enhance "boy on a horse" --require "golden hour|sunset" --auto style',
        ),
        Step("README: modifiers", "neuroprompt modifiers style"),
        Step("README: image", 'neuroprompt image "boy on a horse" --enhance -o out.png', makes=("out.png",)),
        Step(
            "README: score",
            'neuroprompt score --prompt "boy on a horse" out.png',
            after=("README: image",),
        ),
        Step(
            "README: score, reading",
            'neuroprompt score --prompt "boy on a horse" out.png --rewards vqa,echo,atoms',
            after=("README: image",),
        ),
        Step(
            "README: grid",
            "neuroprompt grid --input prompts.txt --rows 6 --images-per-prompt 4 -o grid.html "
            "--methods plain,suffix,enhanced",
            DRAW,
            makes=("grid.html",),
        ),
        Step(
            "README: grid, SD Turbo",
            'neuroprompt grid "boy on a horse" --generator stabilityai/sd-turbo -o grid.png',
            DRAW,
            makes=("grid.png",),
        ),
        Step(
            "README: evaluate",
            "neuroprompt evaluate --input prompts.txt --methods plain,suffix,random,enhanced,best-of-8 -o results/mine",
            DRAW,
            makes=("results/mine/report.html",),
        ),
        Step(
            "evaluate: export",
            "neuroprompt evaluate --input geneval:downloads/geneval --methods plain,enhanced --images-per-prompt 4 "
            "--export -o results/geneval",
            f"{DRAW} --methods plain",
            makes=(
                "results/geneval/export/plain/00000/metadata.jsonl",
                "results/geneval/export/plain/00001/samples/00000.png",
            ),
        ),
        Step(
            "rewards: that read the picture",
            'neuroprompt score --prompt "a red cube on a blue sphere" out.png --rewards vqa,echo,pickscore',
            after=("README: image",),
        ),
        Step(
            "rewards: that read the picture, embedded",
            'neuroprompt score --prompt "a castle at night" out.png --rewards vqa,echo,pickscore '
            "--reward-model embedded",
            after=("README: image",),
        ),
        Step(
            "faithfulness: score",
            'neuroprompt score --prompt "a red cube on a blue sphere" out.png --rewards atoms',
            after=("README: image",),
        ),
        Step("faithfulness: rules", 'neuroprompt questions "two red foxes under a bridge"'),
        Step(
            "faithfulness: a question file",
            "neuroprompt questions --input prompts.txt -o questions.json",
            makes=("questions.json",),
        ),
        Step(
            "faithfulness: evaluate",
            "neuroprompt evaluate --input prompts.txt --methods plain,enhanced --rewards pickscore,echo "
            "--atoms questions.json -o results/faithful",
            DRAW,
            after=("faithfulness: a question file",),
            makes=("results/faithful/report.html", "results/faithful/questions.json"),
        ),
        Step(
            "faithfulness: a benchmark's questions",
            "neuroprompt questions --known dsg-1k-anns.csv -o questions.json",
            "-o mended.json",
            makes=("mended.json",),
        ),
        Step("faithfulness: enhance if better", 'neuroprompt enhance "boy on a horse" --if-better 4', "--steps 2"),
        Step(
            "faithfulness: image if better",
            'neuroprompt image "boy on a horse" --enhance --if-better 4 -o out.png',
            "--steps 2 -o gated.png",
            makes=("gated.png",),
        ),
        Step(
            "faithfulness: optimize if better",
            'neuroprompt optimize "boy on a horse" --budget 64 --if-better 8',
            "--budget 8 --held-out 0 --steps 2",
        ),
        Step(
            "faithfulness: evaluate, gated",
            "neuroprompt evaluate --input prompts.txt --methods plain,enhanced,enhanced+gate --if-better 8 "
            "-o results/gate",
            f"{DRAW} --if-better 4",
            makes=("results/gate/report.html",),
        ),
        Step(
            "rewards: own, score",
            'neuroprompt score --prompt "boy on a horse" --rewards my_file.py:colourful out.png',
            after=("README: image",),
        ),
        Step(
            "rewards: own, evaluate",
            "neuroprompt evaluate --input prompts.txt --methods plain,enhanced "
            '--rewards "pickscore:1.0,my_file.py:colourful:0.5" -o results/colourful',
            DRAW,
            makes=("results/colourful/report.html",),
        ),
        Step(
            "rewards: own, PPO",
            "accelerate launch training/ppo.py --config configs/ppo/embedded.yaml "
            "--rewards pickscore:1.0,my_file.py:colourful:0.5",
            f"{SMALL['ppo']} {UNEVALUATED} --output_dir runs/colourful",
            makes=("runs/colourful/model.safetensors",),
        ),
        Step(
            "README: optimize",
            'neuroprompt optimize "boy on a horse" --budget 64 -o best.png',
            "--steps 1 --budget 16 --held-out 2",
            makes=("best.png",),
        ),
        Step(
            "search: negative prompts",
            'neuroprompt optimize "boy on a horse" --search-negative -o best.png',
            "--steps 1 --budget 16 --held-out 2 -o best-negative.png",
            makes=("best-negative.png",),
        ),
        Step(
            "evaluation: the best fixed suffix",
            "neuroprompt suffix --input configs/ppo/queries/train.txt --budget 5120 -o suffix.txt",
            "--steps 1 --budget 48 --length 1 --rewards length:-1",
            makes=("suffix.txt", "suffix.json"),
        ),
        Step(
            "evaluation: searches to take a suffix from",
            "neuroprompt optimize --input prompts.txt --state search.json -o finds.jsonl",
            "--steps 1 --budget 8 --held-out 0 --rewards length:-1",
            makes=("finds.jsonl",),
        ),
        Step(
            "evaluation: the suffix of the searches",
            "neuroprompt suffix --frequent-in finds.jsonl -o frequent.txt",
            after=("evaluation: searches to take a suffix from",),
            makes=("frequent.txt",),
        ),
        Step(
            "evaluation: does it read the prompt",
            "neuroprompt evaluate --input configs/ppo/queries/test.txt:300 --methods plain,suffix:suffix.txt,"
            "suffix:frequent.txt,enhanced,random:enhanced,swapped:enhanced "
            "--against suffix:suffix.txt,swapped:enhanced -o results/reading",
            f"{DRAW} --input prompts.txt",
            after=("evaluation: the best fixed suffix", "evaluation: the suffix of the searches"),
            makes=("results/reading/report.html",),
        ),
        Step(
            "images: a negative prompt",
            'neuroprompt image "a castle" --enhance --forbid people --negative blurry -o castle.png',
            "--steps 1",
            makes=("castle.png",),
        ),
        Step(
            "README: study",
            "neuroprompt study --axes style,booster --input prompts.txt -o results/modifiers",
            f"{DRAW} --levels 2",
            makes=("results/modifiers/report.html",),
        ),
        Step(
            "study: two generators",
            "neuroprompt study --axes 'booster=highly detailed|8k|masterpiece,vibe' --input partiprompts:200 "
            "--generators stabilityai/sd-turbo,stabilityai/sdxl-turbo --rewards pickscore:1,aesthetic:0,clip:0 "
            "-o results/turbo",
            f"{DRAW} --levels 2 --input partiprompts:2",
            makes=("results/turbo/report.html",),
        ),
        Step(
            "evaluate, launched",
            "accelerate launch -m neuroprompt.cli evaluate --input prompts.txt -o results/mine",
            f"{DRAW} -o results/launched",
            makes=("results/launched/report.html",),
        ),
        Step(
            "study: classes",
            "neuroprompt study --axes style,booster --input prompts.csv --generators embedded -o results/modifiers",
            f"{DRAW} --levels 2 -o results/classes",
            makes=("results/classes/report.html",),
        ),
        Step(
            "study: launched",
            "accelerate launch scripts/study.py --axes style,booster --input prompts.csv -o results/modifiers",
            f"{DRAW} --levels 2 -o results/launched-study",
            makes=("results/launched-study/report.html",),
        ),
        *(
            Step(
                f"study: shard {i}",
                f"neuroprompt study --axes style,booster --input prompts.csv --shard {i}/2 -o shard{i}",
                f"{DRAW} --levels 2",
            )
            for i in (1, 2)
        ),
        Step(
            "study: merged",
            "neuroprompt study --merge shard1 shard2 -o results/modifiers",
            "-o results/merged",
            after=("study: shard 1", "study: shard 2"),
            makes=("results/merged/report.html",),
        ),
    ]


# --- what must hold afterwards ---------------------------------------------------------------------------------------


def _is_plain_policy(run: str):
    """Whether a folder holds a `transformers` policy and no more: safetensors in float32, no adapter and no pickle."""

    def check(work: Path) -> None:
        folder = work / run
        pickles = [f.name for f in folder.glob("*") if f.suffix in (".bin", ".pt", ".pkl")]
        assert not pickles, f"{run} holds {pickles[0]}"
        assert not (folder / "adapter_config.json").exists(), f"{run} holds adapters and no plain policy"
        with safe_open(folder / "model.safetensors", "pt") as file:
            dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}
        assert dtypes == {"F32"}, f"the weights in {run} are {', '.join(sorted(dtypes))}"

    return check


def _retells(run: str):
    """Whether a folder says that its policy retells."""

    def check(work: Path) -> None:
        assert PromptFormat.from_file(work / run / FORMAT_FILE) == RETELL

    return check


def _has_steps(run: str, iterations: int):
    """Whether a run's log says that it has come so far, without a gap."""

    def check(work: Path) -> None:
        log = json.loads((work / run / "log_history.json").read_text())
        steps = [entry["step"] for entry in log if "loss" in entry]
        assert steps == sorted(set(steps)), f"{run} has logged its steps as {steps}"
        assert len(steps) >= iterations, f"{run} has logged {len(steps)} iterations, and not {iterations}"

    return check

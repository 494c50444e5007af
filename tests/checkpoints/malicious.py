"""Models that would run code of their own, each in another way: what they run leaves a file, the canary."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from tests.checkpoints import diffusion, policies, rewards, vision_language

MODULE = "planted"  # a Python file in the model's folder


def policy(folder: Path, canary: Path, trick: str) -> Path:
    """A GPT-2 with one of `POLICIES`."""
    policies.gpt2(folder)
    POLICIES[trick](folder, canary)
    return folder


def generator(folder: Path, canary: Path, trick: str) -> Path:
    """A Stable Diffusion with one of `GENERATORS`."""
    diffusion.stable_diffusion(folder)
    GENERATORS[trick](folder, canary)
    return folder


def clip(folder: Path, canary: Path, trick: str) -> Path:
    """A CLIP with one of `CLIPS`."""
    CLIPS[trick](folder, canary)
    return folder


def vlm(folder: Path, canary: Path, trick: str) -> Path:
    """A LLaVA with one of `VLMS`."""
    vision_language.llava(folder)
    VLMS[trick](folder, canary)
    return folder


def _plant(folder: Path, canary: Path, file: str = f"{MODULE}.py") -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(
        f"from pathlib import Path\n\nPath({str(canary)!r}).touch()\n\n\nclass Planted:\n    pass\n\n\n"
        "def generate(*_, **__):\n    pass\n"
    )


def _change(file: Path, **values) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | values))


def _own_classes(folder: Path, canary: Path) -> None:
    """Config, model and tokenizer are classes of its own, of a kind that transformers has never heard of."""
    _plant(folder, canary)
    classes = {name: f"{MODULE}.Planted" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}
    _change(folder / "config.json", model_type="planted", auto_map=classes)
    _change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, f"{MODULE}.Planted"]})


def _own_classes_of_a_known_kind(folder: Path, canary: Path) -> None:
    _own_classes(folder, canary)
    _change(folder / "config.json", model_type="gpt2")


def _own_tokenizer(folder: Path, canary: Path) -> None:
    _plant(folder, canary)
    tokenizer = {"tokenizer_class": "Planted", "auto_map": {"AutoTokenizer": [None, f"{MODULE}.Planted"]}}
    _change(folder / "tokenizer_config.json", **tokenizer)


def _own_generate(folder: Path, canary: Path) -> None:
    _plant(folder, canary, "custom_generate/generate.py")
    _change(folder / "generation_config.json", custom_generate=str(folder))


def _kernel(folder: Path, canary: Path) -> None:
    _change(folder / "config.json", attn_implementation="planted/kernel", _attn_implementation="planted/kernel")


def _adapters(folder: Path, canary: Path, **values) -> None:
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        (folder / file).unlink()
    _plant(folder, canary)
    save_file({}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 2, "target_modules": ["c_attn"]}
    _change(folder / "adapter_config.json", **config | {"base_model_name_or_path": "embedded"} | values)


def _adapters_of_a_class(folder: Path, canary: Path) -> None:
    """The place of the model's class, which peft imports."""
    mapping = {"base_model_class": "Planted", "parent_library": MODULE}
    _adapters(folder, canary, task_type=None, auto_mapping=mapping)


def _adapters_of_megatron(folder: Path, canary: Path) -> None:
    """The place of Megatron, which peft imports."""
    _adapters(folder, canary, megatron_config={"hidden_size": 1}, megatron_core=MODULE)


def _adapters_of_another(folder: Path, canary: Path) -> None:
    """Adapters that are harmless, of a model that is not."""
    _adapters(folder, canary, base_model_name_or_path=str(policy(folder / "base", canary, "own classes")))


POLICIES: dict[str, Callable[[Path, Path], None]] = {
    "own classes": _own_classes,
    "own classes of a known kind": _own_classes_of_a_known_kind,
    "own tokenizer": _own_tokenizer,
    "own generate": _own_generate,
    "a kernel": _kernel,
    "adapters of a class": _adapters_of_a_class,
    "adapters of megatron": _adapters_of_megatron,
    "adapters of another": _adapters_of_another,
}


def _own_pipeline(folder: Path, canary: Path) -> None:
    _plant(folder, canary)
    _change(folder / "model_index.json", _class_name=[MODULE, "Planted"])


def _default_pipeline(folder: Path, canary: Path) -> None:
    _plant(folder, canary, "pipeline.py")


def _own_part(folder: Path, canary: Path) -> None:
    _plant(folder, canary, f"scheduler/{MODULE}.py")
    _change(folder / "model_index.json", scheduler=[MODULE, "Planted"])


def _part_from_anywhere(folder: Path, canary: Path) -> None:
    """A part from a module that lies where Python finds it: in the folder that a user has changed into."""
    _plant(folder, canary)
    _change(folder / "model_index.json", scheduler=[MODULE, "Planted"])


def _own_text_encoder(folder: Path, canary: Path) -> None:
    _plant(folder / "text_encoder", canary)
    _change(folder / "text_encoder" / "config.json", model_type="planted", auto_map={"AutoModel": f"{MODULE}.Planted"})
    _change(folder / "model_index.json", text_encoder=["transformers", "AutoModel"])


def _own_clip_tokenizer(folder: Path, canary: Path) -> None:
    _own_tokenizer(folder / "tokenizer", canary)
    _change(folder / "model_index.json", tokenizer=["transformers", "AutoTokenizer"])


GENERATORS: dict[str, Callable[[Path, Path], None]] = {
    "own pipeline": _own_pipeline,
    "pipeline.py": _default_pipeline,
    "own part": _own_part,
    "a part from anywhere": _part_from_anywhere,
    "own text encoder": _own_text_encoder,
    "own tokenizer": _own_clip_tokenizer,
}


def _clip_model(folder: Path, canary: Path) -> None:
    rewards.clip_model(folder)
    _own_classes(folder, canary)
    _change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": f"{MODULE}.Planted"})
    _change(folder / "config.json", model_type="clip")


def _open_clip(folder: Path, canary: Path, text: dict | None = None, vision: dict | None = None) -> None:
    rewards.open_clip_folder(folder)
    _plant(folder, canary)
    _change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, f"{MODULE}.Planted"]})
    _change(folder / "config.json", model_type="planted", auto_map={"AutoConfig": f"{MODULE}.Planted"})
    file = folder / "open_clip_config.json"
    model = json.loads(file.read_text())["model_cfg"]
    model["text_cfg"] |= text or {}
    model["vision_cfg"] |= vision or {}
    _change(file, model_cfg=model)


def _open_clip_that_trusts(folder: Path, canary: Path) -> None:
    _open_clip(folder, canary, {"hf_tokenizer_name": "planted", "tokenizer_kwargs": {"trust_remote_code": True}})


def _open_clip_that_asks(folder: Path, canary: Path) -> None:
    _open_clip(folder, canary, {"hf_tokenizer_name": "planted"})


def _open_clip_text(folder: Path, canary: Path) -> None:
    _open_clip(folder, canary, {"hf_model_name": str(folder), "hf_tokenizer_name": "planted"})


def _open_clip_vision(folder: Path, canary: Path) -> None:
    _open_clip(folder, canary, vision={"timm_model_name": f"local-dir:{folder}"})


CLIPS: dict[str, Callable[[Path, Path], None]] = {
    "transformers": _clip_model,
    "a tokenizer that is trusted": _open_clip_that_trusts,
    "a tokenizer that asks": _open_clip_that_asks,
    "a text encoder from elsewhere": _open_clip_text,
    "a picture encoder from elsewhere": _open_clip_vision,
}


def _vlm_classes(folder: Path, canary: Path) -> None:
    _own_classes(folder, canary)
    classes = {name: f"{MODULE}.Planted" for name in ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor")}
    _change(folder / "config.json", auto_map=classes)


def _vlm_processor(folder: Path, canary: Path) -> None:
    """Processor and image processor are classes of its own."""
    _plant(folder, canary)
    classes = {name: f"{MODULE}.Planted" for name in ("AutoProcessor", "AutoImageProcessor")}
    _change(folder / "processor_config.json", processor_class="Planted", auto_map=classes)
    _change(folder / "preprocessor_config.json", image_processor_type="Planted", auto_map=classes)


def _vlm_kernel(folder: Path, canary: Path) -> None:
    """In the config of each part."""
    config = json.loads((folder / "config.json").read_text())
    named = {"attn_implementation": "planted/kernel", "_attn_implementation": "planted/kernel"}
    parts = {part: config[part] | named for part in ("text_config", "vision_config")}
    _change(folder / "config.json", **named, **parts)


VLMS: dict[str, Callable[[Path, Path], None]] = {
    "own classes": _vlm_classes,
    "own processor": _vlm_processor,
    "a kernel": _vlm_kernel,
}

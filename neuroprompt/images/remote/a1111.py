"""The API of AUTOMATIC1111's web UI and of Forge (started with ``--api``): ``/sdapi/v1``."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from neuroprompt.families import family_of
from neuroprompt.images.config import RemoteConfig
from neuroprompt.images.remote.dialect import Model, Picture, listed
from neuroprompt.wire import RemoteError, Server, Trouble


class A1111:
    """A server that answers ``POST /sdapi/v1/txt2img``.

    Pictures of one text with seeds that follow each other come in one request: the server counts up from the first.
    """

    title: ClassVar = "AUTOMATIC1111 or Forge"
    connections: ClassVar = 1

    def __init__(self, server: Server, config: RemoteConfig):
        self._server, self._config, self.most = server, config, config.batch_size
        self._model = config.model

    @classmethod
    def found(cls, server: Server) -> bool:
        return "sd_model_checkpoint" in (server.find(_OPTIONS) or {})

    def model(self) -> Model:
        options = self._server.get(_OPTIONS)
        if not isinstance(options, dict) or not options.get("sd_model_checkpoint"):
            raise RemoteError(f"{self._server.url} has no checkpoint loaded: choose one there")
        checkpoint = self._model or str(options["sd_model_checkpoint"])
        identity = self._model or str(options.get("sd_checkpoint_hash") or checkpoint)
        name = _without_hash(checkpoint)
        return Model(name, ("a1111", identity, *_settings(options)), takes_negative=self._guides(name))

    def draw(self, text: str, seeds: Sequence[int], config: RemoteConfig) -> list[Picture]:
        answer = self._server.post("/sdapi/v1/txt2img", self._body(text, seeds, config))
        files = listed(answer, "images", len(seeds))
        said = _info(answer)
        if (drawn := said.get("all_seeds", list(seeds))) != list(seeds):
            raise Trouble(f"it drew with the seeds {str(drawn)[:60]} where {seeds[0]} and on are due", lasting=True)
        model = str(said.get("sd_model_hash") or "") or None
        return [Picture.of_base64(file, model=model) for file in files]

    def _guides(self, name: str) -> bool:
        """Whether the model leads away from a negative prompt, as it is asked, or by what its family does."""
        if (scale := _cfg_scale(self._config)) is not None:
            return scale > 1
        family = family_of(name)
        return family is None or family.negative

    def _body(self, text: str, seeds: Sequence[int], config: RemoteConfig) -> dict[str, Any]:
        width, height = config.size or (None, None)
        asked = {
            "prompt": text,
            "negative_prompt": config.negative or "",
            "seed": seeds[0],
            "batch_size": len(seeds),
            "steps": config.steps,
            "cfg_scale": _cfg_scale(config),
            "distilled_cfg_scale": None if config.true_cfg is None else config.guidance,
            "width": width,
            "height": height,
            "sampler_name": config.scheduler,
            "enhance": False,  # of `neuroprompt serve`; others do not know it
            "override_settings": {"sd_model_checkpoint": self._model} if self._model else None,
        }
        return {name: value for name, value in asked.items() if value is not None}


_OPTIONS = "/sdapi/v1/options"
# What else changes pictures there, as far as a version has it.
_DECISIVE = ("sd_vae", "CLIP_stop_at_last_layers", "eta_noise_seed_delta", "randn_source", "forge_additional_modules")


def _cfg_scale(config: RemoteConfig) -> float | None:
    """Of models distilled with guidance, that is an input, and Forge's name for it another."""
    return config.guidance if config.true_cfg is None else config.true_cfg


def _settings(options: dict[str, Any]) -> list[str]:
    return [f"{name}={options[name]}" for name in _DECISIVE if name in options]


def _without_hash(checkpoint: str) -> str:
    """ "dreamshaper_8.safetensors [879db523c3]" as people say it."""
    return checkpoint.split(" [")[0].removesuffix(".safetensors").removesuffix(".ckpt")


def _info(answer: dict[str, Any]) -> dict[str, Any]:
    """What the server says of the pictures: JSON in JSON."""
    try:
        said = json.loads(answer.get("info") or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}

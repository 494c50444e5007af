"""OpenAI's ``POST /v1/images/generations``, as many servers have it, and ``neuroprompt serve``, which adds to it seeds,
steps, guidance and negative prompts."""

from collections.abc import Sequence
from typing import Any, ClassVar

from neuroprompt.images.config import RemoteConfig, shown_size
from neuroprompt.images.remote.dialect import Model, Picture, listed
from neuroprompt.prompts import Window
from neuroprompt.wire import RemoteError, Server, Trouble


class OpenAI:
    """A server that answers ``POST /v1/images/generations``."""

    title: ClassVar = "an OpenAI-style images API"
    connections: ClassVar = 1
    most = 1  # several pictures of a text have seeds of the server's own

    def __init__(self, server: Server, config: RemoteConfig):
        self._server, self._config = server, config
        self._model: str | None = None

    @classmethod
    def found(cls, server: Server) -> bool:
        return "data" in (server.find(_MODELS) or {})

    def model(self) -> Model:
        self._refuse("steps", "guidance", "true_cfg", "negative", "scheduler")
        self._model = self._config.model or self._only_model()
        return Model(self._model, ("openai", self._model), self._config.seeds == "sent")

    def draw(self, text: str, seeds: Sequence[int], config: RemoteConfig) -> list[Picture]:
        asked = {"model": self._model, "prompt": text, "n": len(seeds)} | self._settings(seeds, config)
        if not (self._model or "").startswith("gpt-image"):  # which sends nothing else, and refuses to be asked
            asked["response_format"] = "b64_json"
        asked = {name: value for name, value in asked.items() if value is not None}
        try:
            answer = self._server.post("/v1/images/generations", asked)
        except RemoteError as error:
            if error.code not in _WITHHELD:
                raise
            if len(seeds) > 1:  # which of them it was, it does not say
                return [picture for seed in seeds for picture in self.draw(text, [seed], config)]
            return [Picture(b"", None, flagged=True)]
        return [self._picture(item) for item in listed(answer, "data", len(seeds))]

    def _settings(self, seeds: Sequence[int], config: RemoteConfig) -> dict[str, Any]:
        """What is asked for besides a text and a number of pictures."""
        seed = seeds[0] if config.seeds == "sent" else None
        return {"size": shown_size(config.size) if config.size else None, "seed": seed}

    def _refuse(self, *names: str) -> None:
        """Refuse settings that such servers do not read."""
        for name in names:
            if (value := getattr(self._config, name)) is not None:
                raise RemoteError(
                    f"{self._server.url} ({self.title}) reads no {name}, which is {value!r}: leave it out"
                )

    def _only_model(self) -> str:
        listing = self._server.find(_MODELS) or {}
        names = [str(entry["id"]) for entry in listing.get("data", ())]
        if len(names) != 1:
            have = f"it has {', '.join(names[:8])}" if names else "it lists none"
            raise RemoteError(f"{self._server.url} does not say which model is to draw: set model=NAME ({have})")
        return names[0]

    def _picture(self, item: dict[str, Any]) -> Picture:
        if item.get("b64_json"):
            return Picture.of_base64(item["b64_json"])
        if isinstance(item.get("url"), str):
            return Picture.of(self._server.read_url(item["url"]))
        raise Trouble("it answers with neither b64_json nor a url", lasting=True)


class NeuroPrompt(OpenAI):
    """``neuroprompt serve``, which says in ``/info`` what it draws with."""

    title: ClassVar = "neuroprompt serve"
    connections: ClassVar = 8

    @classmethod
    def found(cls, server: Server) -> bool:
        return _described(server) is not None

    def model(self) -> Model:
        self._refuse("true_cfg", "scheduler")
        said = _described(self._server)
        if said is None:
            raise RemoteError(f"{self._server.url} does not say in /info what it draws with")
        self._model = self._config.model
        known = {name: said["config"].get(name) for name in ("steps", "guidance", "size", "negative")}
        known["size"] = tuple(known["size"]) if known["size"] else None
        # Seeds count up from the first there.
        self.most = min(self._config.batch_size, said["limits"].get("max_pictures", 1))
        window, guidance = said.get("window"), self._config.guidance
        return Model(
            said["name"],
            ("neuroprompt", said["fingerprint"]),
            window=None if window is None else Window.of(window),
            takes_negative=bool(said.get("takes_negative")) and (guidance is None or guidance > 1),
            defaults=known,
        )

    def _settings(self, seeds: Sequence[int], config: RemoteConfig) -> dict[str, Any]:
        own = {"negative_prompt": config.negative, "steps": config.steps, "guidance": config.guidance}
        # As it is: what is rewritten here is not rewritten there again.
        return super()._settings(seeds, config) | own | {"seed": seeds[0], "enhance": False}


_MODELS = "/v1/models"
_WITHHELD = ("moderation_blocked", "content_policy_violation", "content_filter")


def _described(server: Server) -> dict[str, Any] | None:
    """What ``/info`` says of a generator, as ``neuroprompt serve`` has it."""
    info = server.find("/info") or {}
    said = info.get("generator")
    if not isinstance(said, dict) or not {"name", "fingerprint", "config"} <= said.keys():
        return None
    return said | {"limits": info.get("limits", {})}

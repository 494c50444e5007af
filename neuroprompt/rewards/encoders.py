"""CLIP's two towers, loaded by name and shared by the rewards that read pictures through the same one.

Every reward but ImageReward is a few numbers on top of a CLIP: a cosine (clip, hps), a scaled cosine (pickscore), or a
small head over the image embedding (aesthetic). `Encoder` is that CLIP, from `transformers` or open_clip, and
`EmbeddingReward` the base of those rewards: it scores embeddings, so whoever holds several rewards over one encoder
encodes a batch once and hands the embeddings to each (`RewardSet` does).
"""

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import open_clip
import torch
from huggingface_hub import hf_hub_download
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, PreTrainedTokenizerBase

from neuroprompt.models import ModelError, check_hub, check_weights, locate, reporting
from neuroprompt.policies import load_tokenizer

from .loading import PROBE, fingerprint
from .preprocessing import Preprocessing, check_batch
from .vision_language import VisionLanguage

REMEMBERED_TEXTS = 4096


class Encoder(ABC):
    """A CLIP that turns pictures and texts into unit vectors of one space.

    Args:
        model: The CLIP, on its device and in its dtype; preparation and normalisation are in float32 whatever it is.
        preprocessing: How it wants its pictures.

    Attributes:
        source: Where it was loaded from, in its canonical form.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, source: str):
        self.model = model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.source = source
        self._parameter = next(model.parameters())
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def device(self) -> torch.device:
        return self._parameter.device

    @property
    def dtype(self) -> torch.dtype:
        return self._parameter.dtype

    @cached_property
    def size(self) -> int:
        """Width of the embeddings."""
        return self.encode_texts([""]).shape[1]

    @property
    def logit_scale(self) -> Tensor:
        """The factor of the cosines in CLIP's softmax, on the device."""
        return self.model.logit_scale.float().exp()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the embeddings depend on besides texts and pictures: the model and its weights, dtype,
        preparation and tokens."""
        return fingerprint(self.model, self.dtype, self.preprocessing, self._tokenize(PROBE).tolist())

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Embed pictures (n, 3, H, W) in [0, 1], in one forward; returns float32 unit vectors (n, size)."""
        if not len(images):
            return torch.zeros(0, self.size, device=self.device)
        pixels = self.preprocessing(images.to(self.device))
        return F.normalize(self._image_features(pixels.to(self.dtype)).float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts; returns float32 unit vectors (n, size).

        Each distinct text is encoded once: the last 4,096 stay on the device. What is longer than the model's window is
        cut there, and keeps the end token.
        """
        if not texts:
            return torch.zeros(0, self.size, device=self.device)
        new = [t for t in dict.fromkeys(texts) if t not in self._texts]
        if new:
            features = F.normalize(self._text_features(self._tokenize(new).to(self.device)).float(), dim=-1)
            # Clones, since a row that stays would keep all rows of its batch.
            self._texts.update(zip(new, (row.clone() for row in features), strict=True))
        for text in texts:
            self._texts.move_to_end(text)
        rows = torch.stack([self._texts[t] for t in texts])
        while len(self._texts) > REMEMBERED_TEXTS:
            self._texts.popitem(last=False)
        return rows

    @abstractmethod
    def _tokenize(self, texts: list[str]) -> Tensor: ...  # (n, length)

    @abstractmethod
    def _text_features(self, tokens: Tensor) -> Tensor: ...  # (n, size)

    @abstractmethod
    def _image_features(self, pixels: Tensor) -> Tensor: ...  # (n, size)


class TransformersEncoder(Encoder):
    """A `CLIPModel` of transformers."""

    def __init__(self, model: CLIPModel, tokenizer: PreTrainedTokenizerBase, preprocessing: Preprocessing, source: str):
        super().__init__(model, preprocessing, source)
        self.tokenizer = tokenizer
        tokenizer.padding_side = "right"

    @classmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype, processor: str) -> "TransformersEncoder":
        processor = locate(processor, "clip", weights=False)
        model, loading = CLIPModel.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation=None, output_loading_info=True
        )
        check_weights(f"the CLIP {source!r}", model.to(device), loading)
        preprocessing = Preprocessing.of_transformers(CLIPImageProcessor.from_pretrained(processor))
        if preprocessing.crop != model.config.vision_config.image_size:
            raise ModelError(
                f"the image processor of {processor} makes pictures of {preprocessing.crop} pixels and the model of "
                f"{source} takes {model.config.vision_config.image_size}"
            )
        return cls(model, load_tokenizer(processor), preprocessing, source)

    def _tokenize(self, texts: list[str]) -> Tensor:
        # No mask: attention is causal and the feature is the first end token's, so padding after it is not seen.
        window = self.model.config.text_config.max_position_embeddings
        return self.tokenizer(texts, padding=True, truncation=True, max_length=window, return_tensors="pt")["input_ids"]

    def _text_features(self, tokens: Tensor) -> Tensor:
        return self.model.get_text_features(input_ids=tokens).pooler_output

    def _image_features(self, pixels: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values=pixels).pooler_output


class OpenClipEncoder(Encoder):
    """A model of open_clip."""

    def __init__(self, model: nn.Module, tokenizer, preprocessing: Preprocessing, source: str):
        super().__init__(model, preprocessing, source)
        self.tokenizer = tokenizer

    @classmethod
    def load(
        cls,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        weights: Path | None = None,
        config: dict | None = None,
    ) -> "OpenClipEncoder":
        """Load an architecture with the weights of a file, or what ``local-dir:`` and ``hf-hub:`` name.

        `config` is that of open_clip's tag: preparation of the pictures, and whether the activation is QuickGELU.
        """
        config = config or {}
        model = open_clip.create_model(
            name,
            str(weights) if weights else None,
            # OpenAI's weights want QuickGELU, which the plain architectures do not have: open_clip itself only warns.
            force_quick_gelu=config.get("quick_gelu", False),
            force_preprocess_cfg={
                k: v for k, v in config.items() if k in ("mean", "std", "interpolation", "resize_mode")
            },
            require_pretrained=True,
            weights_only=True,
        )
        preprocessing = Preprocessing.of_open_clip(open_clip.get_model_preprocess_cfg(model))
        # `.to` casts the layer norms, too, which is what "pure" half precision is for open_clip.
        check_weights(f"the CLIP {name!r}", model.to(device=device, dtype=dtype))
        # With a tokenizer of transformers; open_clip's own has no such argument, and no code of others.
        of_transformers = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
        tokenizer = open_clip.get_tokenizer(name, **({"trust_remote_code": False} if of_transformers else {}))
        return cls(model, tokenizer, preprocessing, name)

    def _tokenize(self, texts: list[str]) -> Tensor:
        return self.tokenizer(texts)

    def _text_features(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)

    def _image_features(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)


class Encoders:
    """Encoders, and vision-language models, by name, each loaded once.

    Args:
        device, dtype: Where and how they are held.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device, self.dtype = device, dtype
        self._loaded: dict[tuple[str, str], Encoder] = {}
        self._vision_language: dict[str, VisionLanguage] = {}

    def load(self, name: str | Path, kind: str = "clip", processor: str | None = None) -> Encoder:
        """The encoder called `name`.

        Args:
            name: ``embedded``; a folder of a `CLIPModel` or of an open_clip model; a hub id of a `CLIPModel`; an
                architecture of open_clip and its tag (``ViT-L-14:openai``); or open_clip's ``hf-hub:org/name`` and
                ``local-dir:folder``.
            kind: The folder of the embedded model.
            processor: Where tokenizer and image processor of a `CLIPModel` are, if they are not with it.

        Raises:
            ModelError: It cannot be loaded; pickled weights are refused.
        """
        name = str(name)
        with reporting(f"the CLIP {name!r}"):
            if (tag := open_clip_name(name)) is None:
                source = locate(name, kind)
                if Path(source).is_dir():
                    source = str(Path(source).resolve())
            else:
                source = name
            key = source, processor or source
            if key not in self._loaded:
                if tag is None:
                    self._loaded[key] = TransformersEncoder.load(source, self.device, self.dtype, key[1])
                else:
                    self._loaded[key] = self._load_open_clip(*tag)
            return self._loaded[key]

    def vision_language(self, name: str | Path) -> VisionLanguage:
        """The vision-language model called `name`: ``embedded``, a folder or a hub id.

        Raises:
            ModelError: It cannot be loaded; pickled weights are refused.
        """
        with reporting(f"the vision-language model {str(name)!r}"):
            source = locate(name, "vlm")
            if Path(source).is_dir():
                source = str(Path(source).resolve())
            if source not in self._vision_language:
                self._vision_language[source] = VisionLanguage.load(source, self.device, self.dtype)
            return self._vision_language[source]

    def _load_open_clip(self, name: str, tag: str | None) -> Encoder:
        schema, _, place = name.partition(":")
        if schema == "local-dir":
            folder = Path(locate(place, "clip"))  # refuses what is missing, and pickles
            if not (folder / HF_SAFE_WEIGHTS_NAME).is_file():
                raise ModelError(f"{place} is no open_clip folder: it holds no {HF_SAFE_WEIGHTS_NAME}")
            check_open_clip(f"local-dir:{folder}")
            return OpenClipEncoder.load(f"local-dir:{folder}", self.device, self.dtype)
        if schema == "hf-hub":
            check_open_clip(name)
            hf_hub_download(place, HF_SAFE_WEIGHTS_NAME)  # open_clip would go on to a pickle where there is none
            return OpenClipEncoder.load(name, self.device, self.dtype)
        config = get_pretrained_cfg(name, tag)
        if not config:
            known = ", ".join(list_pretrained_tags_by_model(name)) or "none"
            raise ModelError(f"open_clip has no weights {tag!r} for {name}: choose from {known}")
        repository, _, file = config.get("hf_hub", "").rpartition("/")
        if not repository:
            raise ModelError(f"open_clip has {name}:{tag} as a pickle only, which can run any code: choose another")
        check_hub(repository)
        file = str(Path(file).with_suffix(".safetensors")) if file else HF_SAFE_WEIGHTS_NAME
        weights = Path(hf_hub_download(repository, file))
        return OpenClipEncoder.load(name, self.device, self.dtype, weights, config)


# What a model's own config may say of its tokenizer. The rest would be handed on to transformers, as trust_remote_code.
_TOKENIZER_SETTINGS = {"additional_special_tokens", "clean", "context_length", "language", "strip_sep_token"}


def check_open_clip(name: str) -> None:
    """Refuse an open_clip config that has other models loaded, with the code that comes with them.

    Args:
        name: ``hf-hub:org/name`` or ``local-dir:folder``; architectures are the library's own.

    Raises:
        ModelError: The config is one; what is wrong with it otherwise comes as it is.
    """
    schema, _, place = name.partition(":")
    if schema not in ("hf-hub", "local-dir"):
        return
    if schema == "hf-hub":
        check_hub(place)
    file = Path(place, HF_CONFIG_NAME) if schema == "local-dir" else Path(hf_hub_download(place, HF_CONFIG_NAME))
    config = json.loads(file.read_text("utf-8"))["model_cfg"]
    text, vision = config["text_cfg"], config["vision_cfg"]
    if unknown := sorted(set(text.get("tokenizer_kwargs") or {}) - _TOKENIZER_SETTINGS):
        raise ModelError(f"{name} sets {unknown[0]} of its tokenizer, and no code that comes with a model is run")
    elsewhere = text.get("hf_model_name") or vision.get("timm_model_name", "")
    if "hf_model_name" in text or ":" in elsewhere:
        raise ModelError(f"{name} takes a part of itself from {elsewhere!r}, and only what is in it is loaded")


class EmbeddingReward(ABC):
    """A reward that is a function of prompts and image embeddings.

    Attributes:
        name: Its name in a reward set.
        encoder: The CLIP whose embeddings it scores.
    """

    def __init__(self, name: str, encoder: Encoder):
        self.name = name
        self.encoder = encoder

    @property
    def fingerprint(self) -> str:
        """Hash of what the scores depend on besides prompts and pictures: the kind of reward and all weights."""
        return fingerprint(nn.Module(), type(self).__name__, self.encoder.fingerprint)

    @abstractmethod
    def score(self, prompts: Sequence[str], embeddings: Tensor) -> Tensor:
        """Scores (n,) of unit image embeddings (n, size) for a prompt each."""

    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] for a prompt each; one forward for all.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        check_batch(prompts, images)
        return self.score(prompts, self.encoder.encode_images(images))


def open_clip_name(name: str) -> tuple[str, str | None] | None:
    """(architecture, tag) or (schema and place, None) where `name` is one for open_clip, else None."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    architecture, _, tag = name.partition(":")
    if architecture in open_clip.list_models():
        if not tag:
            known = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
            raise ModelError(f"which weights of {name}? write {name}:TAG with a tag of {known}")
        return architecture, tag
    folder = Path(name).expanduser()
    if (folder / HF_CONFIG_NAME).is_file() and not (folder / "config.json").is_file():
        return f"local-dir:{folder}", None
    return None

"""The memory of a run's phases: their passes on skeletons, with the arithmetic of the code that they stand for."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from neuroprompt.decoding.neurologic import CACHE
from neuroprompt.images import GeneratorConfig, PipelineGenerator, denoiser
from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.rewards.vision_language import BATCH
from neuroprompt.training.planning.skeletons import peak_bytes

Autocast = Callable[[], AbstractContextManager]
UNKNOWN_SIZE = (1024, 1024)  # of the pictures of a server that does not say


@torch.no_grad()
def generate(policy: PreTrainedModel, rows: int, prompt: int, completion: int, autocast: Autocast) -> int:
    """Bytes of continuing `rows` prompts: the pass over these, or the last token's with all others in the cache."""
    policy.eval()

    def step(length: int, **cache) -> None:
        with autocast():
            logits = policy(input_ids=_ids(rows, length), use_cache=True, logits_to_keep=1, **cache).logits
        scaled = logits[:, -1].float() / 1.0
        torch.softmax(scaled, dim=-1).cumsum(-1, dtype=torch.float64)

    def fill(length: int) -> None:
        nonlocal cache
        with autocast():
            cache = policy(input_ids=_ids(rows, length), use_cache=True, logits_to_keep=1)[CACHE]

    cache = None
    first = peak_bytes(lambda: step(prompt), policy)
    peak_bytes(lambda: fill(prompt + completion - 1), policy)
    held = (tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    return max(first, peak_bytes(lambda: step(1, **{CACHE: cache}), policy, held=held))


@torch.no_grad()
def logprobs(policy: PreTrainedModel, rows: int, prompt: int, completion: int, autocast: Autocast) -> int:
    """Bytes of reading what policy and reference make of `rows` rewrites (`ppo.actor.Actor.measure`)."""
    policy.eval()

    def measure() -> None:
        with autocast():
            logits = _logits(policy, rows, prompt, completion)
            token_logprobs(logits, _ids(len(logits)), entropy=True)
            token_logprobs(_logits(policy, rows, prompt, completion), _ids(len(logits)))
            del logits

    return peak_bytes(measure, policy)


def update(
    policy: PreTrainedModel, critic: nn.Module | None, rows: int, prompt: int, completion: int, autocast: Autocast
) -> int:
    """Bytes of a PPO step's forward and backward pass on `rows` rewrites, gradients left out."""
    policy.train()

    def step() -> None:
        with autocast():
            logprobs, _ = token_logprobs(_logits(policy, rows, prompt, completion), _ids(rows * completion))
            loss = logprobs.sum()
            if critic is not None:
                loss = loss + critic(input_ids=_ids(rows, prompt + completion), use_cache=False).last_hidden_state.sum()
        loss.backward()

    return peak_bytes(step, policy, *filter(None, [critic]), trained=True)


def language_modelling(policy: PreTrainedModel, rows: int, length: int, autocast: Autocast, logits: bool) -> int:
    """Bytes of a training step on `rows` texts, gradients left out.

    `logits` says whether those of all tokens are held at once; TRL's losses on a GPU form them in tiles.
    """
    policy.train()
    body = policy if logits else policy.get_decoder()

    def step() -> None:
        with autocast():
            if logits:
                ids = _ids(rows, length)
                loss = body(input_ids=ids, labels=ids, use_cache=False).loss
            else:
                loss = body(input_ids=_ids(rows, length), use_cache=False).last_hidden_state.sum()
        loss.backward()

    return peak_bytes(step, policy, trained=True)


@torch.no_grad()
def draw(generator: PipelineGenerator) -> int:
    """Bytes of drawing a batch: of a U-Net's step or of the decoder; of other denoisers the decoder's alone."""
    pipeline, config = generator.pipeline, generator.config
    unet, vae, count = denoiser(pipeline), pipeline.vae, config.batch_size
    rows = count * (2 if generator.takes_negative else 1)
    width, height = (side // pipeline.vae_scale_factor for side in config.size)

    def denoise() -> None:
        given, dtype = unet.config, unet.dtype
        added = None
        if given.addition_embed_type == "text_time":
            pooled = given.projection_class_embeddings_input_dim - 6 * given.addition_time_embed_dim
            added = {
                "text_embeds": torch.zeros(rows, pooled, dtype=dtype),
                "time_ids": torch.zeros(rows, 6, dtype=dtype),
            }
        unet(
            torch.zeros(rows, given.in_channels, height, width, dtype=dtype),
            torch.zeros((), dtype=torch.long),
            torch.zeros(rows, 77, given.cross_attention_dim, dtype=dtype),
            added_cond_kwargs=added,
        )

    def decode() -> None:
        pictures = vae.decode(torch.zeros(count, vae.config.latent_channels, height, width, dtype=vae.dtype)).sample
        pictures.float()

    return max(peak_bytes(decode, vae), peak_bytes(denoise, unet) if hasattr(pipeline, "unet") else 0)


@torch.no_grad()
def score(encoder: nn.Module, encode_images: Callable[[Tensor], object], size: int, drawing: GeneratorConfig) -> int:
    """Bytes of embedding a batch of pictures that are prepared to `size` pixels; of what size they come, a server may
    not say before it is asked."""
    count = drawing.batch_size

    def encode() -> None:
        width, height = drawing.size or (size, size)
        pictures = torch.zeros(count, 3, height, width)
        encode_images(torch.zeros(count, 3, size, size).to(next(encoder.parameters()).dtype))
        del pictures

    return peak_bytes(encode, encoder)


@torch.no_grad()
def read(model: PreTrainedModel, drawing: GeneratorConfig) -> int:
    """Bytes of asking a vision-language model about a batch of pictures, with an answer of a prompt's length (`echo`):
    of its language model, or of its vision tower where that takes pictures of one size, which others do not say."""
    rows, vision = min(BATCH, drawing.batch_size), model.config.vision_config
    own = getattr(vision, "image_size", None)
    width, height = (own, own) if own else drawing.size or UNKNOWN_SIZE
    patch = vision.patch_size * getattr(vision, "spatial_merge_size", 1)
    length = (width // patch) * (height // patch) + 2 * CLIP_WINDOW  # the picture, the question, the answer

    def answer() -> None:
        logits = model(input_ids=_ids(rows, length), use_cache=False, logits_to_keep=CLIP_WINDOW).logits
        logits.float().log_softmax(-1)

    def see() -> None:
        model.get_image_features(pixel_values=torch.zeros(rows, 3, height, width, dtype=model.dtype))

    width_drawn, height_drawn = drawing.size or (width, height)
    pictures = 4 * 3 * drawing.batch_size * width_drawn * height_drawn
    return pictures + max(peak_bytes(answer, model), peak_bytes(see, model) if own else 0)


# --- details -----------------------------------------------------------------------------------------------------


def _ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


def _logits(policy: PreTrainedModel, rows: int, prompt: int, completion: int) -> Tensor:
    """For choosing the completions' tokens. (tokens, vocab)"""
    logits = policy(input_ids=_ids(rows, prompt + completion), use_cache=False, logits_to_keep=completion + 1).logits
    return logits[:, :-1].flatten(0, 1)

"""The embedded vision-language model: transformers' LlavaForConditionalGeneration (Liu et al. 2023) at 64 x 64.

The vision tower is the embedded CLIP's, which learns on; its 64 patches go through the projector into a Llama of two
layers. It learns to describe a picture in the words of a prompt, and to answer yes or no (conversations.py).

Several questions about one picture share the cost of seeing it: they lie one after another in a sequence, and each
attends to the picture and to itself alone, at the positions that it would have on its own. What is learnt is what is
asked later, one question a picture.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from .autoencoder import to_pixels
from .clip import Renderings, image_processor
from .conversations import DESCRIBE, KINDS, SHOWS, Picture, Sights
from .export import _as_float32
from .loop import LoopConfig, fit, load_averaged, pick_device
from .tokenizer import learn_bpe

IMAGE, END, PADDING = "<image>", "</s>", "<pad>"
SEEN = 65  # tokens of a picture: the tower's class token, which CLIP trained to name the subject, and 64 patches
WIDTH = 160
LONGEST = 32  # tokens of a caption; the rest is cut off in training
BUDGET = 112  # tokens of all that is said about one picture
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% endif %}{% endfor %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %} {% else %}ASSISTANT: {% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def train_processor(texts: Iterable[str], vocab_size: int = 3000) -> LlavaProcessor:
    """A tokenizer that is CLIP's in kind (lower-case, every byte known), of words in `texts`; and CLIP's pictures."""
    bpe, tokens, merges = learn_bpe(texts, vocab_size - 3)
    whole = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, merges, end_of_word_suffix="</w>", unk_token=None)
    )
    whole.normalizer, whole.pre_tokenizer = bpe.normalizer, bpe.pre_tokenizer
    whole.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)])
    whole.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (PADDING, END, IMAGE)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=whole, eos_token=END, pad_token=PADDING, extra_special_tokens={"image_token": IMAGE},
        model_max_length=512, padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip
    return LlavaProcessor(
        image_processor(), tokenizer, patch_size=8, vision_feature_select_strategy="full", image_token=IMAGE,
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def new_vlm(processor: LlavaProcessor, clip: Path | None) -> LlavaForConditionalGeneration:
    """A model that knows nothing but what the CLIP in the folder `clip` sees (None: nothing)."""
    tokenizer = processor.tokenizer
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **tower, "num_hidden_layers": 4, "image_size": 64,
                       "patch_size": 8},
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=448, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.04,
        ),
        image_token_index=processor.image_token_id, image_seq_length=SEEN, vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )  # fmt: skip
    config._attn_implementation = "sdpa"  # faster than eager here, unlike in clip.py: with a mask, in float32
    model = LlavaForConditionalGeneration(config)
    if clip:
        known = CLIPVisionModel.from_pretrained(clip).state_dict()
        model.model.vision_tower.load_state_dict(known)
    for name, p in model.model.vision_tower.named_parameters():
        p.requires_grad_("post_layernorm" not in name)  # nothing reads it
    return model


# --------------------------------------------------------------------------------------------------------- sequences

CAPTION, ANSWER, RIVAL = 1, 2, 3


@dataclass
class Turn:
    """A question, its answer, and what the answer is: a caption, yes or no, or a false caption that is not learnt."""

    question: str
    answer: str
    role: int


@dataclass
class Batch:
    """Pictures (n, 64, 64, 3) uint8, and a sequence (n, length) for each.

    turns: that of each token; 0 of the picture's part, -1 of padding.
    following, roles: the next token and what it is, where it is one of an answer; 0 elsewhere.
    named: Further pictures (m, 64, 64, 3), of which nothing is said but what they show: (m, vocabulary), each of whose
        rows has a share for each of its words.
    """

    images: np.ndarray
    ids: Tensor
    positions: Tensor
    turns: Tensor
    following: Tensor
    roles: Tensor
    named: tuple[np.ndarray, Tensor] | None = None

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What each token attends to, (n, 1, length, length): what came before, of the picture's part and its turn."""
        turns = self.turns
        seen = (turns[:, None, :] == 0) | (turns[:, None, :] == turns[:, :, None])
        seen &= torch.ones(turns.shape[1], turns.shape[1], dtype=torch.bool, device=turns.device).tril()
        return torch.zeros(seen.shape, dtype=dtype, device=turns.device).masked_fill(~seen, torch.finfo(dtype).min)[
            :, None
        ]

    def to(self, device: torch.device) -> "Batch":
        parts = (t.to(device) for t in (self.ids, self.positions, self.turns, self.following, self.roles))
        return Batch(self.images, *parts, self.named and (self.named[0], self.named[1].to(device)))


def pack(processor: LlavaProcessor, images: np.ndarray, talks: Sequence[Sequence[Turn]], budget: int = BUDGET) -> Batch:
    """Sequences of a picture's part and `budget` tokens at most: a turn that finds no room is left out."""
    tokenizer = processor.tokenizer
    texts = [text for talk in talks for turn in talk for text in (turn.question, turn.answer)]
    encoded = iter(tokenizer(texts, add_special_tokens=False).input_ids)
    opening = tokenizer("USER:", add_special_tokens=False).input_ids + [processor.image_token_id] * SEEN
    asked = tokenizer("ASSISTANT:", add_special_tokens=False).input_ids
    first = len(opening)
    fields = np.zeros((5, len(talks), first + budget), np.int64)  # ids, positions, turns, following, roles
    ids, positions, turns, following, roles = fields
    ids[:] = tokenizer.pad_token_id
    ids[:, :first], positions[:, :first] = opening, range(first)
    turns[:, first:] = -1
    longest = 0
    for row, talk in enumerate(talks):
        end = first
        for number, turn in enumerate(talk, 1):
            question, answer = next(encoded) + asked, [*next(encoded)[:LONGEST], tokenizer.eos_token_id]
            start, mark = end, end + len(question) - 1
            if start + len(question) + len(answer) - 1 > first + budget:
                continue
            end = mark + len(answer)
            ids[row, start:end] = question + answer[:-1]
            positions[row, start:end] = range(first, first + end - start)
            turns[row, start:end] = number
            following[row, mark:end], roles[row, mark:end] = answer, turn.role
        longest = max(longest, end)
    return Batch(images, *torch.from_numpy(fields[:, :, :longest]))


# ---------------------------------------------------------------------------------------------------------- training


class Talks:
    """Batches for training, and the held-out pictures of the reports."""

    def __init__(
        self, data: Path, table: Path, processor: LlavaProcessor, split: str = "train", listing: Path | None = None
    ):
        self.renderings, self.processor, self.learns = Renderings(data), processor, split == "train"
        self.sights = Sights(table, split, self.renderings.common, listing)
        rows = self.renderings.rows
        singles = {s: i for s, i in self.renderings.by_subject[split].items() if rows[i[0]]["scene"] < 0}
        self._singles = list(singles.values())
        self._scenes = np.array([i for i, row in enumerate(rows) if row["scene"] >= 0 and row["split"] == split])

    def picture(self, rng: np.random.Generator) -> Picture:
        """Each subject as often as any other; an eighth are scenes, a quarter is composed."""
        chance = rng.random()
        if chance < 0.25 and self.sights.icons:
            return self.sights.composed(("count", "colour", "relation")[int(rng.integers(3))], rng)
        if chance < 0.38 and len(self._scenes):
            index = self._scenes[int(rng.integers(len(self._scenes)))]
        elif chance < 0.72 and self.learns:
            return self.sights.icon(rng)
        else:
            of = self._singles[int(rng.integers(len(self._singles)))]
            index = of[int(rng.integers(len(of)))]
        picture = self.sights.rendering(self.renderings.rows[index], self.renderings.images[index], rng)
        return self.sights.moved(picture, rng) if self.learns else picture

    def talk(self, picture: Picture, rng: np.random.Generator, questions: int = 6) -> list[Turn]:
        """A caption and its rival, the prompt shown and not shown, and questions about atoms."""
        turns = [Turn(DESCRIBE, picture.say(True, rng), CAPTION), Turn(DESCRIBE, picture.say(False, rng), RIVAL)]
        kinds = list(picture.asks)
        asked = [kinds[int(rng.integers(len(kinds)))] for _ in range(questions)]
        for kind, truth in [("show", True), ("show", False), *((kind, rng.random() < 0.5) for kind in asked)]:
            turns.append(Turn(picture.question(kind, truth, rng), "yes" if truth else "no", ANSWER))
        return turns

    def batch(self, size: int, rng: np.random.Generator, captions: bool = False) -> Batch:
        """`captions`: nothing but those."""
        pictures = [self.picture(rng) for _ in range(size)]
        talks = [self.talk(p, rng)[: 2 if captions else None] for p in pictures]
        batch = pack(self.processor, np.stack([p.rgb for p in pictures]), talks)
        return replace(batch, named=self.named(size, rng))

    def named(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Pictures of which only the subject is told: the tower sees twice as many so, and no sequence is read."""
        pictures = [self.sights.icon(rng) for _ in range(size)]
        told = self.processor.tokenizer([p.say(True, rng) for p in pictures], add_special_tokens=False).input_ids
        words = torch.zeros(size, len(self.processor.tokenizer))
        for row, ids in zip(words, told, strict=True):
            row[ids] = 1 / len(set(ids))
        return np.stack([p.rgb for p in pictures]), words


def read(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
    """The last hidden states of the sequences (n, length, width), and what the projector gave (n, SEEN, width)."""
    seen = model.get_image_features(to_pixels(batch.images, model.device), return_dict=True)
    hidden = model.model(
        input_ids=batch.ids, mm_encoder_outputs={"image": seen}, attention_mask=batch.mask(torch.float32),
        position_ids=batch.positions, use_cache=False,
    ).last_hidden_state  # fmt: skip
    return hidden, torch.stack(list(seen.pooler_output))


def look(model: LlavaForConditionalGeneration, images: np.ndarray) -> Tensor:
    """What the projector makes of pictures (n, 64, 64, 3): (n, SEEN, width)."""
    return torch.stack(list(model.get_image_features(to_pixels(images, model.device), return_dict=True).pooler_output))


def naming_loss(model: LlavaForConditionalGeneration, seen: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of words (n, vocabulary), each row's shares 1 together, by class token and mean patch of `seen`
    (n, SEEN, width), read where the language model finds words."""
    told = torch.stack([seen[:, 0], seen[:, 1:].mean(1)], 1)
    scores = model.lm_head(model.model.language_model.norm(told)).float().log_softmax(-1)  # (n, 2, vocabulary)
    return -(scores * words[:, None]).sum(-1).mean()


def losses(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of captions and of answers; how far a caption is likelier than its rival; and naming.

    Naming: what the projector makes of the class token, and of the mean patch, is near the words of the caption, where
    the language model finds it.
    """
    batch = batch.to(model.device)
    hidden, seen = read(model, batch)
    said = batch.roles > 0
    roles, following, picture = batch.roles[said], batch.following[said], said.nonzero()[:, 0]
    logits = model.lm_head(hidden[said]).float()
    surprise = F.cross_entropy(logits, following, reduction="none")
    captioned, answered = roles == CAPTION, roles == ANSWER

    def mean(of: Tensor) -> Tensor:
        """The mean surprise of each picture's tokens among these."""
        zero = torch.zeros(len(said), device=said.device)
        counts = zero.index_add(0, picture[of], of[of].float())
        return zero.index_add(0, picture[of], surprise[of]) / counts.clamp(min=1)

    caption, margin = surprise[captioned].mean(), mean(roles == RIVAL) - mean(captioned)
    answer = surprise[answered].sum() / answered.sum().clamp(min=1)
    words = torch.zeros(len(said), logits.shape[-1], device=said.device)
    words[picture[captioned], following[captioned]] = 1
    naming = naming_loss(model, seen, words / words.sum(1, keepdim=True))
    if batch.named:
        naming = naming + naming_loss(model, look(model, batch.named[0]), batch.named[1])
    right = (logits.argmax(-1) == following)[answered].float().mean()  # the ends of answers are among them
    numbers = {"caption": caption, "naming": naming, "pairs": (margin > 0).float().mean()}
    numbers |= {"answer": answer, "right": 2 * right - 1} if answered.any() else {}
    return caption + 3 * answer + 0.5 * naming + 0.3 * F.softplus(-4 * margin).mean(), numbers


def train_vlm(
    data: Path,
    table: Path,
    clip: Path | None,
    out: Path,
    config: LoopConfig,
    device: str = "auto",
    warm_up: Path | None = None,
    freeze_tower: bool = False,
    listing: Path | None = None,
    vocab_size: int = 3000,
) -> LlavaForConditionalGeneration:
    """Train on the renderings in `data` and on compositions of the icons in `table`.

    As LLaVA is trained, in two stages. First, without `warm_up`, captions alone, with the tower of the CLIP in `clip`
    as it is: the language model learns to look. Then from what that left in the folder `warm_up`, everything;
    `freeze_tower` keeps the tower as it is for a while more. A checkpoint in `out` goes on without either.
    """
    begun = (out / "checkpoint.safetensors").is_file()
    processor = _processor(data, table, out if begun else warm_up or out, listing, vocab_size)
    processor.save_pretrained(out / "processor")
    talks = Talks(data, table, processor, listing=listing)
    heldout = Talks(data, table, processor, "heldout", listing) if config.sheet_steps else None
    torch.manual_seed(config.seed)
    model = new_vlm(processor, None if begun else clip)
    if warm_up and not begun:
        compare_likeness(load_averaged(model, warm_up), talks)
    model.to(pick_device(device))

    def report(averaged: nn.Module, path: Path) -> None:
        found = right_by_kind(averaged, heldout)
        path.with_suffix(".json").write_text(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)

    return fit(
        model,
        config,
        out,
        lambda rng: talks.batch(config.batch_size, rng, captions=not warm_up),
        lambda batch: losses(model, batch),
        report,
        frozen="model.vision_tower" if freeze_tower or not warm_up else None,
    )


@torch.no_grad()
def compare_likeness(model: LlavaForConditionalGeneration, talks: Talks) -> None:
    """Set a head of the first layer to look for what is like its word.

    Whether a picture shows what a word says is no sum of what picture and word are, so learning finds the comparison
    late. After the warm-up a picture's tokens are near its words. Queries and keys of this head are the same: the parts
    in which words for subjects differ most, where RoPE turns slowly enough for places not to matter.
    """
    language, tokenizer = model.model.language_model, talks.processor.tokenizer
    phrases = [phrase.lstrip("~") for phrases in talks.sights.lexicon.phrases.values() for phrase in phrases]
    words = sorted({token for ids in tokenizer(phrases, add_special_tokens=False).input_ids for token in ids})
    layer = language.layers[0]
    known = layer.input_layernorm(language.embed_tokens.weight[words])
    mean = known.mean(0)
    size = layer.self_attn.head_dim
    parts = torch.linalg.svd(known - mean)[2][: size // 2]
    parts -= (parts @ mean)[:, None] * mean / mean.square().sum()
    # A word's own score becomes 7, that of another word about 0.
    parts *= (7 * size**0.5 / (known @ parts.T).square().sum(1).mean()) ** 0.5
    slow = [*range(size // 2 - 1, size // 4 - 1, -1)]
    places = [place for pair in slow for place in (pair, pair + size // 2)]
    for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
        projection.weight[:size] = 0
        projection.weight[places] = parts


@torch.no_grad()
def right_by_kind(
    model: LlavaForConditionalGeneration, talks: Talks, batches: int = 8, size: int = 32
) -> dict[str, float]:
    """Share of right answers by kind of question, for held-out pictures; "pairs": a caption above its rival."""
    tokenizer, rng = talks.processor.tokenizer, np.random.default_rng(7)
    yes, no = (tokenizer.convert_tokens_to_ids(f"{word}</w>") for word in ("yes", "no"))
    right: dict[str, list[bool]] = {kind: [] for kind in (*KINDS, "pairs")}
    for _ in range(batches):
        pictures = [talks.picture(rng) for _ in range(size)]
        images = np.stack([picture.rgb for picture in pictures])
        told = pack(talks.processor, images, [talks.talk(picture, rng)[:2] for picture in pictures])
        right["pairs"].append(losses(model, told)[1]["pairs"].item())
        asked = [[(k, t) for k in ("show", *p.asks) for t in (True, False)] for p in pictures]
        talk = [
            [Turn(p.question(k, t, rng), "yes", ANSWER) for k, t in a] for p, a in zip(pictures, asked, strict=True)
        ]
        batch = pack(talks.processor, images, talk, budget=400).to(model.device)
        logits = model.lm_head(read(model, batch)[0][batch.following == yes])
        says = (logits[:, yes] > logits[:, no]).tolist()
        for (kind, truth), said in zip([pair for a in asked for pair in a], says, strict=True):
            right[kind].append(said == truth)
    return {kind: round(float(np.mean(values)), 3) for kind, values in right.items() if values}


def _processor(data: Path, table: Path, out: Path, listing: Path | None, vocab_size: int) -> LlavaProcessor:
    """The processor in `out`, made there of what the conversations say if it is not there yet."""
    if not (out / "processor").is_dir():
        renderings, rng = Renderings(data), np.random.default_rng(0)
        sights = Sights(table, "train", renderings.common, listing)
        texts = ["USER: ASSISTANT: yes no", DESCRIBE, SHOWS] * 50
        chosen = rng.choice(renderings.train, min(12_000, len(renderings.train)), replace=False)
        for index in chosen:
            picture = sights.rendering(renderings.rows[index], renderings.images[index], rng)
            texts += [picture.say(True, rng), picture.question("subject", True, rng)]
        for _ in range(len(chosen) // 6):
            picture = sights.composed(("count", "colour", "relation")[int(rng.integers(3))], rng)
            texts += [picture.say(True, rng), *(picture.question(kind, True, rng) for kind in picture.asks)]
        train_processor(texts, vocab_size).save_pretrained(out / "processor")
    return LlavaProcessor.from_pretrained(out / "processor")


def export_vlm(work: Path, output: Path) -> int:
    """Write the folder `output`, in fp16, for AutoProcessor and AutoModelForImageTextToText; returns its bytes."""
    processor = LlavaProcessor.from_pretrained(work / "processor")
    model = load_averaged(new_vlm(processor, None), work)
    model.half().save_pretrained(output)
    processor.save_pretrained(output)
    _as_float32(output / "config.json")
    return sum(file.stat().st_size for file in output.rglob("*") if file.is_file())

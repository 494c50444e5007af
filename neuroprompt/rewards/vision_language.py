"""Vision-language models, asked about pictures: how probable "yes" is as an answer, and how probable a text is.

    model = encoders.vision_language("embedded")
    model.yes(images, ["Is there a dog?"])                               # (1,): P("yes" | picture, question)
    model.likelihood(images, ["Describe this image."], ["a red boat"])   # (1,): mean log P(token | what is before it)

Any model that `transformers` loads for images and text (`AutoModelForImageTextToText`) will do: BLIP, BLIP-2,
InstructBLIP, LLaVA, Qwen-VL, SmolVLM. One with a chat template is asked through it, with the picture and the text in
the user's turn and thinking off; others get the text as it is. Where a decoder alone writes, the answer's tokens follow
the prompt's; where an encoder reads (Flan-T5), they are the decoder's labels.

Pictures go through the model's own processor, as 8-bit tensors on the model's device: what it makes of them is what it
makes of the same pictures from PNGs, to the bit.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from neuroprompt.models import ModelError, check_tokenizer, check_weights, has_bfloat16

from .loading import PROBE, fingerprint
from .preprocessing import check_batch, to_bytes

BATCH = 8
"""Pictures that are read at once; a call may have any number."""

_ALIGNED = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
_NONE = -100  # what is no label
_HERE = "THETEXT"  # stands for a text in what a template renders


class VisionLanguage:
    """A vision-language model and its processor.

    Args:
        model: On its device and in its dtype; log-probabilities are in float32 whatever it is.
        processor: What it was trained with.
        source: Where it was loaded from, in its canonical form.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, source: str):
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.source = source
        configs = [model.config, model.config.get_text_config(), getattr(model.config, "qformer_config", None)]
        configs[1].use_cache = False
        self._encodes = any(getattr(config, "is_encoder_decoder", False) for config in configs)
        windows = [getattr(config, "max_position_embeddings", None) for config in configs[1:]]
        self._window = min(filter(None, windows), default=1 << 20)
        self._takes_positions = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.tokenizer.padding_side = "right"  # positions are counted from the left
        self.tokenizer.model_max_length = 1 << 30  # which is said of texts alone; the window is minded here
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._before, self._after, self._gap = self._read_template()
        # As `apply_chat_template`: a template that begins with the start token writes what is special itself.
        start = self.tokenizer.bos_token
        self._adds_special = not (start and self._before.startswith(start))
        special, ids = set(self.tokenizer.all_special_ids), self._tokens("a", special=self._adds_special)
        self._closing = 0 if self._encodes else len(list(takewhile(special.__contains__, reversed(ids))))
        control = {
            t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special or t.content.startswith("<")
        }
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or r"(?!)")
        # Torch has Lanczos on the CPU alone, and takes another elsewhere.
        lanczos = getattr(processor.image_processor, "resample", None) == Image.Resampling.LANCZOS
        self._prepared_on = torch.device("cpu") if lanczos else self.device

    @classmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype) -> "VisionLanguage":
        """Load a folder or a hub repository.

        A model that was trained in bfloat16 overflows in float16, and is held in bfloat16 where that is asked for.

        Raises:
            ModelError: It is of another kind, has no tokenizer or image processor, or its weights are not those of its
                config.
        """
        what = f"the vision-language model {source!r}"
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ModelError(f"{source!r} is a {config.model_type} and no vision-language model: give a BLIP, LLaVA, …")
        if dtype == torch.float16 and config.dtype == torch.bfloat16 and has_bfloat16(device):
            dtype = torch.bfloat16
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        check_tokenizer(what, processor.tokenizer)
        model, loading = AutoModelForImageTextToText.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=None,  # a config could name a kernel of the hub, which is code from there
            output_loading_info=True,
        )
        check_weights(what, model.to(device), loading)
        return cls(model, processor, source)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that answers depend on besides pictures and texts: weights, dtype, preparation, template and
        tokens."""
        configs = [self.model.config.to_dict(), self.processor.image_processor.to_dict()]
        facts = [sorted((key, value) for key, value in config.items() if key != "_name_or_path") for config in configs]
        template = self._before, self._after, self._gap
        return fingerprint(self.model, self.model.dtype, facts, template, [self._tokens(text) for text in PROBE])

    @cached_property
    def yes_tokens(self) -> Tensor:
        """The tokens (k,) that say yes, with or without a space, in any case.

        Raises:
            ModelError: There is none: the tokenizer writes the word in pieces.
        """
        named = [i for token, i in self.tokenizer.get_vocab().items() if "yes" in token.lower()]
        found = [i for i in sorted(named) if self.tokenizer.decode([i]).strip().lower() == "yes"]
        if not found:
            raise ModelError(
                f"the vision-language model {self.source!r} has no token that says yes, so it cannot be asked: choose "
                "another"
            )
        return torch.tensor(found, device=self.device)

    @torch.no_grad()
    def yes(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        """How probable it is that the answer begins with "yes".

        It is VQAScore's P("Yes" | picture, question), summed over all that is one token and says yes ("Yes", " yes").
        What else is said counts against it: P(yes) / (P(yes) + P(no)) would give a model's hunch that it does not
        utter for a certainty.

        Args:
            images: Pictures (n, 3, H, W) in [0, 1] on any device.
            questions: One for each. One that does not fit into the model's window loses its middle.

        Returns:
            Probabilities (n,), float32, on the model's device.

        Raises:
            ModelError: The model has no token that says yes.
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        check_batch(questions, images)
        tokens = self.yes_tokens
        answers = [tokens[:1].tolist()] * len(questions)  # one token's place, whatever stands there
        texts = [self._plain(question) for question in questions]
        parts = [logs[:, tokens].logsumexp(1).exp() for logs, *_ in self._ask(images, texts, answers)]
        return _joined(parts, images, self.device)

    @torch.no_grad()
    def likelihood(self, images: Tensor, instructions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """The mean log-probability of an answer's tokens, in nats; the token that ends an answer is not among them.

        Args:
            images: Pictures (n, 3, H, W) in [0, 1] on any device.
            instructions: What is asked for, one for each; as the questions of `yes`.
            answers: One for each. What does not fit into the model's window is left out; an answer without a token has
                no likelihood, which is NaN.

        Returns:
            Log-probabilities (n,), float32, on the model's device.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        for side in (instructions, answers):
            check_batch(side, images)
        texts, answers = ([self._plain(text) for text in side] for side in (instructions, answers))
        pairs = list(zip(texts, answers, strict=True))
        known = {pair: self._answer(*pair) for pair in set(pairs)}
        parts = []
        for logs, targets, lengths in self._ask(images, texts, [known[pair] for pair in pairs]):
            values = logs.gather(1, targets[:, None]).squeeze(1)
            parts.append(torch.stack([own.mean() for own in values.split(lengths)]))  # NaN where there is none
        return _joined(parts, images, self.device)

    def _ask(
        self, images: Tensor, texts: Sequence[str], answers: list[list[int]]
    ) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """By parts of the batch: the log-probabilities (tokens, vocabulary) of what may stand where each token of the
        answers does, those tokens (tokens,), and how many each answer has."""
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            pictures = to_bytes(images[part]).to(self._prepared_on)
            inputs, kept = self._prepare(pictures, texts[part], answers[part])
            targets = torch.tensor([t for answer in kept for t in answer], dtype=torch.long, device=self.device)
            lengths = list(map(len, kept))
            logits = self._encoded(inputs, kept) if self._encodes else self._decoded(inputs, targets, lengths)
            yield logits.float().log_softmax(-1), targets, lengths

    def _prepare(
        self, pictures: Tensor, texts: Sequence[str], answers: list[list[int]]
    ) -> tuple[dict, list[list[int]]]:
        """What the model takes, and the answers, cut to its window."""
        room = 0 if self._encodes else min(max(map(len, answers)), self._window // 4)
        inputs, lengths = self._process(pictures, texts)
        spare = [self._window - room - length for length in lengths]
        if min(spare) < 0:
            texts = [self._shortened(text, -min(0, n)) for text, n in zip(texts, spare, strict=True)]
            inputs, lengths = self._process(pictures, texts)
        cuts = [max(1, self._window - (0 if self._encodes else length)) for length in lengths]
        return inputs, [answer[:cut] for answer, cut in zip(answers, cuts, strict=True)]

    def _process(self, pictures: Tensor, texts: Sequence[str]) -> tuple[dict, list[int]]:
        """The processor's tensors on the device, and how many tokens each prompt has."""
        inputs = self.processor(
            images=[[picture] for picture in pictures],
            text=[self._before + text + self._after for text in texts],
            input_data_format="channels_first",
            add_special_tokens=self._adds_special,
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.model.dtype)
        if self.model.config.model_type == "blip":  # its decoder starts with a token that the tokenizer does not write
            inputs["input_ids"][:, 0] = self.model.config.text_config.bos_token_id
        masks = [inputs[name].sum(1) for name in ("attention_mask", "qformer_attention_mask") if name in inputs]
        return dict(inputs), torch.stack(masks).amax(0).tolist()

    def _decoded(self, inputs: dict, targets: Tensor, lengths: list[int]) -> Tensor:
        """Logits (tokens, vocabulary) where the answers follow the prompts."""
        starts = inputs["attention_mask"].sum(1, keepdim=True) - self._closing  # (n, 1)
        ends = starts + torch.tensor(lengths, device=self.device)[:, None]
        places = torch.arange(int(ends.max()), device=self.device)[None]  # (1, length)
        # What belongs to tokens besides themselves is, for an answer's, as for the last of its prompt.
        source = places.minimum(starts - 1)
        for name in inputs.keys() & set(_ALIGNED):
            tensor = inputs[name]
            inputs[name] = tensor.take_along_dim(source.view(*source.shape, *[1] * (tensor.ndim - 2)), 1)
        answered = (places >= starts) & (places < ends)
        inputs["input_ids"][answered] = targets
        inputs["input_ids"][places >= ends] = self.tokenizer.pad_token_id
        inputs["attention_mask"] = (places < ends).long()
        rows, columns = answered.nonzero(as_tuple=True)
        columns = columns - 1  # a token is told by what is before it
        if not self._takes_positions:
            return self.model(**inputs).logits[rows, columns]
        kept, columns = columns.unique(return_inverse=True)
        return self.model(**inputs, logits_to_keep=kept).logits[rows, columns]

    def _encoded(self, inputs: dict, answers: list[list[int]]) -> Tensor:
        """Logits (tokens, vocabulary) where a decoder writes the answers."""
        labels = pad_sequence([torch.tensor(a or [_NONE]) for a in answers], True, _NONE).to(self.device)
        return self.model(**inputs, labels=labels).logits[labels != _NONE]

    def _plain(self, text: str) -> str:
        """A text without what the tokenizer takes for more than text, such as the place of a picture."""
        return self._control.sub(" ", text).strip()

    def _answer(self, instruction: str, answer: str) -> list[int]:
        """The tokens of an answer behind what a prompt ends with, since tokenizers mind what is before a word."""
        context = "" if self._encodes else self._after or instruction
        before, whole = self._tokens(context), self._tokens(context + self._gap + answer)
        if not answer or not context or whole[: len(before)] != before:
            return self._tokens(answer)
        return whole[len(before) :]

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        return self.tokenizer(text, add_special_tokens=special)["input_ids"] if text else []

    def _shortened(self, text: str, excess: int) -> str:
        """A text without `excess` tokens of its middle: what is asked stands at its ends."""
        if not excess:
            return text
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        kept = max(0, len(spans) - excess - 2)  # since the ends may fall into more tokens
        head, tail = kept - kept // 4, kept // 4
        return (text[: spans[head - 1][1]] if head else "") + (" " + text[spans[-tail][0] :] if tail else "")

    def _read_template(self) -> tuple[str, str, str]:
        """What stands before a text, behind it, and between that and the answer."""
        if not getattr(self.processor, "chat_template", None):
            picture = getattr(self.processor, "image_token", None)  # a text where the prompt must hold it
            return (f"{picture}\n" if isinstance(picture, str) else ""), "", " "
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _HERE}]}]
        reply = [{"role": "assistant", "content": [{"type": "text", "text": _HERE}]}]
        settings = {"enable_thinking": False} if "enable_thinking" in str(self.processor.chat_template) else {}
        asked = self.processor.apply_chat_template(turn, add_generation_prompt=True, **settings)
        replied = self.processor.apply_chat_template(turn + reply, **settings)
        before, found, after = asked.partition(_HERE)
        if not found:
            raise ModelError(
                f"the chat template of {self.source!r} leaves out what the user says: choose another model"
            )
        gap = replied.removeprefix(asked).partition(_HERE)[0] if replied.startswith(asked) else ""
        return before, after, gap if gap.isspace() else ""


class AskingReward:
    """A base for a reward that is what a model says to one template.

    Args:
        model: That is asked, with the prompt's picture.
        template: What it is asked.
    """

    name: str

    def __init__(self, model: VisionLanguage, template: str):
        self.model, self.template = model, template

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(torch.nn.Module(), self.name, self.template, self.model.fingerprint)


def _joined(parts: list[Tensor], images: Tensor, device: torch.device) -> Tensor:
    """The scores of all parts, which are NaN where a picture holds NaN."""
    if not parts:
        return torch.zeros(0, device=device)
    broken = images.isnan().flatten(1).any(1).to(device)
    return torch.cat(parts).masked_fill(broken, torch.nan)

"""Tiny random vision-language models of six families, with processors as the hub has them."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    T5Config,
)

from tests.checkpoints.rewards import spread

TEXT = """Does this figure show a boy on a horse? Please answer yes or no. Yes, no, No, YES. USER: ASSISTANT: Assistant:
Describe this image in detail. a castle, watercolor, a red cat, is there a dog? how many? user assistant User"""
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] if c['type'] == 'image' %}<image>\n"
    "{% endfor %}{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SMOL = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:"
    "{% else %}: {% endif %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def blip(folder: Path, text: str = TEXT) -> Path:
    """As Salesforce/blip-image-captioning-base: no chat, and a start token that its tokenizer does not write."""
    tokenizer = _words(text, ["[DEC]", "[ENC]"])
    config = BlipConfig(
        text_config=TOWER
        | {
            "vocab_size": len(tokenizer),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 40,
            "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
            "sep_token_id": tokenizer.sep_token_id,
        },
        vision_config=VISION,
    )
    return _save(
        folder, BlipForConditionalGeneration(config), BlipProcessor(BlipImageProcessor(size=SQUARE), tokenizer)
    )


def instructblip(folder: Path, text: str = TEXT) -> Path:
    """As Salesforce/instructblip-flan-t5-xl: an encoder reads, a decoder answers."""
    tokenizer = _pieces(text, ["<pad>", "</s>", "<image>"], "$A </s>", pad_token="<pad>", eos_token="</s>")
    processor = InstructBlipProcessor(BlipImageProcessor(size=SQUARE), tokenizer, _words(text), num_query_tokens=4)
    t5 = T5Config(
        vocab_size=len(processor.tokenizer), d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0,
    )  # fmt: skip
    config = InstructBlipConfig(
        text_config=t5.to_dict(),
        vision_config=VISION,
        qformer_config=TOWER | {"vocab_size": len(processor.qformer_tokenizer), "encoder_hidden_size": 32},
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    return _save(folder, InstructBlipForConditionalGeneration(config), processor)


def llava(folder: Path, text: str = TEXT, template: str | None = LLAVA) -> Path:
    """As llava-hf/llava-1.5-7b-hf: tokens with their space before them."""
    tokenizer = _pieces(
        text, ["<s>", "</s>", "<pad>", "<image>"], "<s> $A", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION).to_dict(),
        text_config=LlamaConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=96).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return _save(folder, LlavaForConditionalGeneration(config), processor)


def qwen2_vl(folder: Path, text: str = TEXT) -> Path:
    """As Qwen/Qwen2-VL-2B-Instruct: pictures of any size, and positions in three dimensions."""
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    return _qwen(folder, text, Qwen2VLForConditionalGeneration, vision, Qwen2VLProcessor, Qwen2VLVideoProcessor)


def qwen3_vl(folder: Path, text: str = TEXT) -> Path:
    """As Qwen/Qwen3-VL-4B-Instruct: what the first layers see is added to the first layers that read."""
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return _qwen(folder, text, Qwen3VLForConditionalGeneration, vision, Qwen3VLProcessor, Qwen3VLVideoProcessor)


def _qwen(folder: Path, text: str, kind: type, vision: dict, processor: type, videos: type) -> Path:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>"]  # fmt: skip
    tokenizer = _bytes(text, special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    config = kind.config_class(
        text_config=TOWER
        | {
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 160,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    prepare = Qwen2VLImageProcessor(patch_size=8, size={"shortest_edge": 16 * 16, "longest_edge": 80 * 80})
    return _save(folder, kind(config), processor(prepare, tokenizer, videos(), chat_template=CHATML))


def smolvlm(folder: Path, text: str = TEXT) -> Path:
    """As HuggingFaceTB/SmolVLM-256M-Instruct: a large picture is read in tiles."""
    special = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>",
               "<global-img>", *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))]  # fmt: skip
    tokenizer = _bytes(text, special, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>")
    config = SmolVLMConfig(
        text_config=LlamaConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=160).to_dict(),
        vision_config=VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    prepare = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(prepare, tokenizer, image_seq_len=4, chat_template=SMOL)
    return _save(folder, SmolVLMForConditionalGeneration(config), processor)


FAMILIES: dict[str, Callable[..., Path]] = {
    make.__name__: make for make in (blip, instructblip, llava, qwen2_vl, qwen3_vl, smolvlm)
}


def _save(folder: Path, model: torch.nn.Module, processor) -> Path:
    torch.manual_seed(0)
    spread(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)


def _words(text: str, special: list[str] | None = None) -> BertTokenizer:
    """Lower-case words and letters, between [CLS] and [SEP]."""
    letters = [chr(c) for c in range(33, 127)]
    splitter = pre_tokenizers.BertPreTokenizer()
    words = [word.lower() for word, _ in splitter.pre_tokenize_str(text)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(special or []), *letters, *words]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(entries + [f"##{letter}" for letter in letters]))}
    return BertTokenizer(vocab=vocab)


def _pieces(text: str, special: list[str], template: str, **names: str) -> PreTrainedTokenizerFast:
    """Pieces with a mark for the space before them, as Llama and T5 have."""
    tokenizer = Tokenizer(models.BPE(unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    letters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text] * 4, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _bytes(text: str, special: list[str], **names: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as Qwen and SmolLM have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)

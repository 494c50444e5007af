"""What CLIP reads of texts and of their beginnings, against an encoding of each beginning as a text of its own."""

import pytest
import torch
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.models import ModelError

TEXTS = ["boy on a horse, sunset, 8k", "Ein Schloß  am Fluß, ölgemälde", "a castle, " * 60, "日本の城 🏯, fog", "a"]


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder.from_pretrained("embedded", "cpu")


def by_itself(encoder, text):
    """The state of a text's end token: alone, by the model's own mask, in float64."""
    ((tokenizer, model),) = encoder.parts
    ids = tokenizer(text, truncation=True, max_length=77)["input_ids"]
    with torch.no_grad():
        state = model.double()(torch.tensor([ids])).last_hidden_state[0, -1]
    model.float()
    return state


def test_a_texts_vector_is_its_end_tokens_state(encoder):
    made = encoder.encode([*TEXTS, "", TEXTS[0]])
    assert made.shape == (7, encoder.width) and made.dtype == torch.float32
    for vector, text in zip(made, [*TEXTS, "", TEXTS[0]], strict=True):
        torch.testing.assert_close(vector.double(), by_itself(encoder, text), atol=1e-4, rtol=1e-4)


def test_a_beginning_is_read_as_a_text_of_its_own(encoder):
    """Each that ends with a word or a mark, all from one pass over the text."""
    ends = [[i for i in range(len(text) + 1) if i == len(text) or not text[i].isalnum()] for text in TEXTS[:3]]
    made = encoder.encode_prefixes(TEXTS[:3], ends)  # the third has more ends than one window has room for
    alone = [text[:end] for text, own in zip(TEXTS[:3], ends, strict=True) for end in own]
    torch.testing.assert_close(made, encoder.encode(alone), atol=1e-4, rtol=1e-4)
    backwards = encoder.encode_prefixes(TEXTS[1::-1], [ends[1], ends[0][::-1]])  # in any order, beside whatever else
    torch.testing.assert_close(backwards[len(ends[1]) :].flip(0), made[: len(ends[0])], atol=1e-4, rtol=1e-4)


def test_within_a_word_the_tokens_that_are_whole_count(encoder):
    nothing, before, within = encoder.encode_prefixes(["a castle"], [[0, 1, 2]])
    assert torch.equal(before, within) and (before - nothing).abs().max() > 0.1
    torch.testing.assert_close(nothing, encoder.encode([""])[0])
    assert encoder.encode_prefixes(["a", "b"], [[], []]).shape == (0, encoder.width)


def test_what_is_behind_the_window_is_not_read(encoder):
    whole, more = encoder.encode([TEXTS[2], TEXTS[2] + "a dog"])
    assert torch.equal(whole, more)


def test_only_clip_is_known_to_be_causal(encoder):
    ((tokenizer, _),) = encoder.parts
    small = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ModelError, match="reads prompts with T5EncoderModel: only CLIP's"):
        PromptEncoder([(tokenizer, small)], "pixart")
    with pytest.raises(ModelError, match="no CLIP encoder"):
        PromptEncoder([], "pixart")


def test_two_encoders_stand_side_by_side(encoder):
    ((tokenizer, model),) = encoder.parts
    torch.manual_seed(0)
    both = PromptEncoder([encoder.parts[0], (tokenizer, CLIPTextModel(model.config).eval())])
    assert both.width == 2 * encoder.width
    torch.testing.assert_close(both.encode(TEXTS)[:, : encoder.width], encoder.encode(TEXTS))

"""Vision-language models of five families, against plain float64 references, one picture at a time."""

import pytest
import torch
from PIL import Image

from neuroprompt.rewards.encoders import Encoders
from tests.checkpoints import vision_language as checkpoints
from tests.rewards.pictures import KINDS, as_tensor

TOLERANCE = 2e-4  # of a log-probability, between float32 in batches and float64 alone
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
PROMPTS = ["a boy on a horse", "a castle, watercolor", "boy", "a red cat, a dog, a horse", "a cat", "dog", "x", "a red"]


@pytest.fixture(scope="module")
def encoders():
    return Encoders(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vlm")


@pytest.fixture(scope="module", params=checkpoints.FAMILIES)
def model(request, encoders, folder):
    return encoders.vision_language(checkpoints.FAMILIES[request.param](folder / request.param))


@pytest.fixture(scope="module")
def arrays():
    """Eight pictures of 48 x 80 pixels."""
    return [draw(48, 80, seed) for seed in range(3) for draw in KINDS.values()][:8]


class Naive:
    """The model's own processor on a picture, float64, the whole conversation at once, and all logits."""

    def __init__(self, model):
        self.processor, self.family = model.processor, model.model.config.model_type
        self.model = type(model.model)(model.model.config).double().eval()
        self.model.load_state_dict({k: v.double() for k, v in model.model.state_dict().items()})

    def prompt(self, text):
        if not getattr(self.processor, "chat_template", None):
            return text
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        return self.processor.apply_chat_template(turn, add_generation_prompt=True)

    @torch.no_grad()
    def logs(self, picture, text, answer):
        """Log-probabilities (1 + tokens of the answer, vocabulary) from the end of the prompt on, and those tokens."""
        start = {"add_special_tokens": False} if self.family == "smolvlm" else {}
        prompt = self.prompt(text)
        between = " " if self.family in ("llava", "blip", "smolvlm") and answer else ""
        read = lambda text: self.processor(images=[[picture]], text=[text], return_tensors="pt", **start)  # noqa: E731
        alone, inputs = read(prompt), read(prompt + between + answer)
        inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        if self.family == "instructblip":
            tokens = self.processor.tokenizer(answer)["input_ids"][:-1]  # without the end
            decoder = torch.tensor([[0, *tokens]])
            inputs = {k: v.double() if v.is_floating_point() else v for k, v in alone.items()}
            return self.model(**inputs, decoder_input_ids=decoder).logits[0].log_softmax(-1), tokens
        begin = alone["input_ids"].shape[1]
        if self.family == "blip":  # [CLS] … [SEP] becomes [DEC] …
            inputs["input_ids"] = inputs["input_ids"][:, :-1]
            inputs["attention_mask"] = inputs["attention_mask"][:, :-1]
            inputs["input_ids"][:, 0] = self.model.config.text_config.bos_token_id
            begin -= 1
        logs = self.model(**inputs).logits[0].log_softmax(-1)
        return logs[begin - 1 :], inputs["input_ids"][0, begin:].tolist()

    def yes(self, picture, question):
        logs, _ = self.logs(picture, question, "")
        said = {i for i in range(logs.shape[1]) if self.processor.tokenizer.decode([i]).strip().lower() == "yes"}
        assert said
        return sum(logs[0, i].exp().item() for i in said)

    def likelihood(self, picture, instruction, answer):
        logs, tokens = self.logs(picture, instruction, answer)
        return sum(logs[place, token].item() for place, token in enumerate(tokens)) / len(tokens)


def test_scores_are_those_of_a_plain_reference_alone_and_in_a_batch(model, arrays):
    naive, images, pictures = Naive(model), as_tensor(arrays), [Image.fromarray(a) for a in arrays]
    questions = [QUESTION.format(prompt) for prompt in PROMPTS]
    instructions = ["Describe this image in detail.", "how many?"] * 4
    expected = torch.tensor([naive.yes(*pair) for pair in zip(pictures, questions, strict=True)])
    echoes = torch.tensor([naive.likelihood(*x) for x in zip(pictures, instructions, PROMPTS, strict=True)])
    assert expected.log().std() > 0.01 and echoes.std() > 0.1

    yes, likelihood = model.yes(images, questions), model.likelihood(images, instructions, PROMPTS)
    torch.testing.assert_close(yes.log(), expected.log().float(), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(likelihood, echoes.float(), rtol=0, atol=TOLERANCE)
    for i in (0, 3, 6):
        one = slice(i, i + 1)
        torch.testing.assert_close(model.yes(images[one], questions[one]), yes[one], rtol=TOLERANCE, atol=0)
        alone = model.likelihood(images[one], instructions[one], PROMPTS[one])
        torch.testing.assert_close(alone, likelihood[one], rtol=0, atol=TOLERANCE)

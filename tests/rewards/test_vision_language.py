"""Vision-language models of six families, against plain float64 references, one picture at a time."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image

from neuroprompt.models import ModelError, locate
from neuroprompt.rewards import load_reward, load_rewards
from neuroprompt.rewards.encoders import Encoders
from neuroprompt.rewards.preprocessing import to_bytes
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


def test_what_people_and_pictures_bring(model, arrays):
    odd = torch.rand(2, 3, 1, 50, generator=torch.manual_seed(0)), torch.rand(1, 3, 300, 7)
    for images in odd:
        assert model.yes(images, [""] * len(images)).isfinite().all()
    images = as_tensor(arrays[:2])
    assert model.likelihood(images, ["", "how many?"], ["", "a cat"]).isfinite().tolist() == [False, True]
    assert model.yes(images[:0], []).shape == model.likelihood(images[:0], [], []).shape == (0,)

    # What a tokenizer would take for a picture's place, or for a turn's end, is left out.
    marks = "".join(t.content for t in model.tokenizer.added_tokens_decoder.values())
    assert model.likelihood(images, ["a", ""], ["", marks]).isnan().all()
    plain, marked = (
        model.yes(images, ["is there a dog?"] * 2),
        model.yes(images, [f"{marks}is there a dog?{marks}"] * 2),
    )
    torch.testing.assert_close(marked, plain, rtol=1e-4, atol=0)

    # A question that is too long keeps its ends, an answer that is its beginning; its neighbour sees nothing of it.
    long, other = ("is there a dog? " + "a red cat, a horse, " * 99 + end for end in ("is it red?", "is it blue?"))
    yes = model.yes(images, [long, "is there a dog?"])
    assert yes[0] != model.yes(images, [other, "is there a dog?"])[0]
    torch.testing.assert_close(yes[1], plain[1], rtol=1e-4, atol=0)
    if not model._encodes:
        first, second = model.likelihood(images[[0, 0]], ["how many?"] * 2, [long, other])
        assert math.isfinite(first) and first == second
    broken = images.clone()
    broken[0, 1, 20, 20] = torch.nan
    assert model.yes(broken, ["is there a dog?"] * 2).isnan().tolist() == [True, False]


def test_a_picture_has_the_score_of_its_png(model, arrays, tmp_path):
    """The processor makes the same of our tensors as of pictures, to the bit."""
    images = as_tensor(arrays[:2])
    Image.fromarray(arrays[0]).save(tmp_path / "0.png")
    theirs = model.processor(
        images=[[Image.open(tmp_path / "0.png")]], text=[model._before + "a" + model._after], return_tensors="pt"
    )
    ours, _ = model._process(to_bytes(images[:1] + 0.3 / 255), ["a"])
    for name in ours.keys() & {"pixel_values", "pixel_attention_mask", "image_grid_thw"}:
        assert torch.equal(ours[name], theirs[name])


def test_rewards_share_a_model_and_say_what_they_depend_on(folder):
    path = checkpoints.llava(folder / "shared")
    rewards = load_rewards(f"vqa[{path}]:1,echo[{path}]:0.5", device="cpu")
    vqa, echo = (component.reward for component in rewards.components)
    assert vqa.model is echo.model
    images, prompts = torch.rand(2, 3, 40, 40), ["a boy {prompt}", "a cat"]
    scores = rewards(prompts, images)
    questions = [QUESTION.format(prompt) for prompt in prompts]
    assert torch.equal(scores["vqa"], vqa.model.yes(images, questions))
    instructions = ["Describe this image in detail."] * 2
    assert torch.equal(scores["echo"], vqa.model.likelihood(images, instructions, prompts))
    other = load_reward("vqa", path, "cpu", template="is there {prompt}?")
    half = load_reward("vqa", path, "cpu", "bf16")
    again = load_reward("vqa", shutil.copytree(path, folder / "copy"), "cpu")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"vision_feature_layer": -1}))
    last = load_reward("vqa", path, "cpu")
    assert len({r.fingerprint for r in (vqa, echo, other, half, last)}) == 5 and again.fingerprint == vqa.fingerprint
    torch.testing.assert_close(half(prompts, images).log(), scores["vqa"].log(), rtol=0, atol=0.2)
    with pytest.raises(ValueError, match=r"has no \{prompt\}"):
        load_reward("vqa", path, "cpu", template="is there?")


def test_how_a_model_is_asked_is_its_template_s(folder, encoders):
    thinking = "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    thinks = encoders.vision_language(checkpoints.llava(folder / "thinks", template=checkpoints.LLAVA + thinking))
    assert thinks._after == " ASSISTANT:" and thinks._gap == " "
    plain = encoders.vision_language(checkpoints.llava(folder / "plain", template=None))
    assert (plain._before, plain._after) == ("<image>\n", "")
    assert plain.yes(torch.rand(1, 3, 9, 9), ["a dog? "]).isfinite().all()
    with pytest.raises(ModelError, match="leaves out what the user says"):
        encoders.vision_language(checkpoints.llava(folder / "deaf", template="USER: <image> ASSISTANT:"))


def test_models_that_cannot_be_asked_are_one_line(folder):
    mute = checkpoints.blip(folder / "mute", text="a boy on a horse")
    eyeless = checkpoints.llava(folder / "eyeless")
    (eyeless / "processor_config.json").unlink()
    cases = {
        mute: "has no token that says yes",
        locate("embedded", "clip"): "is a clip and no vision-language model",
        eyeless: "Can't load image processor",
        folder / "nowhere": "there is no folder",
    }
    for path, message in cases.items():
        with pytest.raises(ModelError, match=message) as error:
            load_reward("vqa", path, "cpu")
        assert "\n" not in str(error.value)
    assert load_reward("echo", mute, "cpu")(["a boy"], torch.rand(1, 3, 20, 20)).isfinite().all()

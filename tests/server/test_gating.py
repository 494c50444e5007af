"""Rewrites whose pictures decide: by every route the library's verdict; a client that leaves; atoms, one by one."""

import asyncio
import json

import pytest
from PIL import Image

from neuroprompt.gate import Gate
from neuroprompt.image_files import encode_png
from neuroprompt.images import ImageGenerator
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.questions import rules
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from neuroprompt.server.gating import gate_all
from neuroprompt.server.metrics import Metrics
from neuroprompt.server.rewards import Judging, rewards
from neuroprompt.server.settings import JUDGES, RewardServerSettings, ServeSettings
from neuroprompt.server.workers import Workers
from tests.checkpoints.vision_language import smolvlm


def test_verdicts_are_the_librarys_and_where_pictures_gain_nothing_the_users_words_come_back(server, enhancer):
    prompts = ["robot playing guitar", "a house"]  # whose rewrites the embedded judges think the worse of, and the more
    made = enhancer(prompts, seed=1)
    judge = load_rewards(JUDGES, "embedded", "cpu")
    reward = PromptReward(ImageGenerator.from_pretrained("embedded", device="cpu"), judge, seed=1)
    expected = Gate(reward, pictures=4)(prompts, [one.text for one in made])
    assert [verdict.accepted for verdict in expected] == [False, True]
    answer = server.post("/v1/enhance", {"prompts": prompts, "seed": 1, "if_better": 4}).json()["results"]
    for (found,), verdict in zip(answer, expected, strict=True):
        said = found["if_better"]
        assert (found["text"], said["accepted"]) == (verdict.text, verdict.accepted)
        assert said["pictures"] == verdict.pictures
        for name, gain in verdict.gains.items():  # of files, whose colours have 8 bits
            assert said["gains"][name]["mean"] == pytest.approx(gain.mean, abs=0.05)
    (plain,), (better,) = answer
    assert plain["warning"] == f"left as it is: {plain['if_better']['reason']}" and not plain["modifiers"]
    assert better["warning"] is None and [m["text"] for m in better["modifiers"]] == [m.text for m in made[1].modifiers]


def test_whoever_asks_for_pictures_gets_those_of_the_words_that_came_back(server):
    prompt = "boy on a horse"
    asked = {"prompt": prompt, "seed": 5, "if_better": 4}
    drawn = server.post("/v1/images/generations", asked).json()
    assert drawn["data"][0]["revised_prompt"] == prompt and not drawn["if_better"]["accepted"]
    plain = server.post("/v1/images/generations", {"prompt": prompt, "seed": 5, "enhance": False}).json()
    assert "if_better" not in plain
    told = json.loads(server.post("/sdapi/v1/txt2img", asked).json()["info"])
    assert (told["prompt"], told["if_better"]) == (prompt, drawn["if_better"])
    stream = server.post("/v1/images/generations", asked | {"stream": True}).text
    first = json.loads(stream.split("data: ", 2)[1].splitlines()[0])
    assert (first["revised_prompt"], first["if_better"]) == (prompt, drawn["if_better"])


def test_what_a_client_that_leaves_has_asked_is_not_drawn():
    class Judge:
        async def ask(self, request):
            return [1, 2]  # the seeds that are due

    async def leave():
        workers = Workers(ServeSettings(), Metrics())  # which nobody has started: all waits
        workers.parts["rewards"], queue = Judge(), workers.parts["generator"].queue
        made = {"original": "a cat", "text": "a cat, 8k", "negative": None}
        asked = asyncio.create_task(gate_all(workers, [[made]], 4))
        while len(queue) < 4:
            await asyncio.sleep(0)
        assert workers.progress.asked == 8
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.sleep(0)
        assert (len(queue), workers.progress.asked) == (0, 0)

    asyncio.run(asyncio.wait_for(leave(), 10))


def test_a_score_says_what_was_asked_of_the_picture_and_reads_what_was_drawn(tmp_path):
    folder = smolvlm(tmp_path / "vlm")
    answers = rewards(RewardServerSettings(rewards=f"atoms[{folder}],length", device="cpu"))
    picture = encode_png(Image.new("RGB", (64, 64), "teal"))
    (judged,) = answers([Judging("a red cat", picture, "a red cat, 8k")])
    asked = judged.answers["atoms"]
    assert [(one["question"], one["answer"]) for one in asked] == [(q.text, q.answer) for q in rules("a red cat")]
    assert judged.scores["atoms"] == pytest.approx(sum(one["score"] for one in asked) / len(asked), abs=1e-6)
    assert judged.scores["length"] == -count_clip_tokens("a red cat, 8k")

"""Our own server as a generator behind a URL: the pictures of the same model in this process, by two of its APIs."""

import pytest

from neuroprompt.images import ImageGenerator
from neuroprompt.prompts import Window

PROMPTS, SEEDS = ["a castle", "a castle", "a cat, blue"], [3, 4, 2**40]


@pytest.mark.parametrize("api", [None, "a1111"])
def test_a_server_of_ours_is_a_generator(api, server, monkeypatch):
    monkeypatch.setenv("NEUROPROMPT_GENERATOR_API_KEY", server.key)
    remote = ImageGenerator.from_pretrained(server.url, device="cpu", api=api, steps=3)
    local = ImageGenerator.from_pretrained("embedded", device="cpu", steps=3)
    drawing = remote.draw(PROMPTS, SEEDS)
    assert (drawing.images - local(PROMPTS, SEEDS)).abs().max() <= 1 / 255 and not drawing.flagged.any()
    assert remote.name == "embedded" and remote.window == Window(77) and remote.takes_negative
    assert remote.fingerprint != ImageGenerator.from_pretrained(server.url, device="cpu", api=api).fingerprint

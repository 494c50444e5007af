"""The script of A1111 and Forge, between planted modules of theirs, and a real server."""

import sys
import time

import pytest

from tests.integrations.hosts import A1111, INTEGRATIONS, Control, Processing, load, planted

ASKING = ["", "", "", False, "", 0]
BLANK = ["", "", "", "", "", "", "", "", False, *ASKING]
"""Of the controls behind the switch and the seed, all as they are at first."""


@pytest.fixture
def host(server, monkeypatch):
    monkeypatch.setenv("NEUROPROMPT_API_KEY", server.key)
    monkeypatch.setattr(sys, "path", [str(INTEGRATIONS / "a1111"), *sys.path])
    host = A1111(server.url)
    with planted(**host.modules):
        host.module = load(INTEGRATIONS / "a1111" / "scripts" / "neuroprompt.py", "a1111_under_test")
        host.script = host.module.Neuroprompt()
        yield host


def paste(host, params):
    """What pasting finds, as values of the controls, in their order; and what else it says."""
    host.pasted[0]("", params)
    controls = host.script.ui(False)
    values = [params.get(key) for _, key in host.script.infotext_fields]
    assert [control for control, _ in host.script.infotext_fields] == controls
    kinds = [type(control.value) for control in controls]
    return [
        kind(value) if kind is not bool else value != "False" for kind, value in zip(kinds, values, strict=True)
    ], params


def test_each_picture_is_rewritten_with_its_seed_and_all_in_one_request(host, server, enhancer):
    def requests():
        return server.metric("neuroprompt_requests_total", route="/v1/enhance")

    before, p = requests(), Processing(["boy on a horse"] * 3, [5, 6, 7])
    host.script.process(p, True, -1, *BLANK)
    end = time.monotonic() + 10
    while requests() == before and time.monotonic() < end:  # it is counted when it has been answered
        time.sleep(0.05)
    assert requests() - before == 1
    assert p.all_prompts == [enhancer("boy on a horse", seed=seed).text for seed in (5, 6, 7)]
    assert p.main_prompt == p.all_prompts[0] and len({*p.all_prompts}) == 3

    fixed = Processing(["boy on a horse"] * 3, [5, 6, 7])
    host.script.process(fixed, True, 6, *BLANK)
    assert {*fixed.all_prompts} == {p.all_prompts[1]}


def test_wishes_are_met_and_what_is_forbidden_can_go_into_the_negative_prompt(host):
    wish = ["alphonse mucha", "baroque", "", "", "", "auto", "golden hour|sunset, fog", "8k, hdr", True, *ASKING]
    p = Processing(["a castle"], [3], ["people"])
    host.script.process(p, True, -1, *wish)
    added = p.all_prompts[0].removeprefix("a castle, ").split(", ")
    assert {"baroque", "fog"} <= {*added} and not {"8k", "hdr"} & {*added}
    assert any("alphonse mucha" in modifier for modifier in added)
    assert p.all_negative_prompts == ["people, 8k, hdr"] == [p.main_negative_prompt]


@pytest.mark.parametrize(
    "prompt",
    [
        "(a castle:1.2) on a hill, [fog], ((sunset)) <lora:detail:0.8>",
        "[a castle:a ruin:0.5], [red|blue] banners",
        "a castle BREAK a dragon",
        "a castle\\(toy\\), fog",
        "1girl, sol<hypernet:x:1>",
    ],
)
def test_the_hosts_syntax_stays_as_it_is(host, prompt):
    p = Processing([prompt], [1])
    host.script.process(p, True, -1, *BLANK)
    assert p.all_prompts[0].startswith(prompt) and len(p.all_prompts[0]) > len(prompt) + 20
    assert not set("()[]{}<>:\\") & set(p.all_prompts[0].removeprefix(prompt))


def test_prompts_between_ands_are_rewritten_each_and_keep_their_weights(host, enhancer):
    p = Processing(["a castle :1.2 AND a dragon AND(a knight:1.1):0.5"], [4])
    host.script.process(p, True, -1, *BLANK)
    castle, dragon, knight = (enhancer(text, seed=4).text for text in ("a castle", " a dragon", "(a knight:1.1)"))
    assert p.all_prompts == [f"{castle} :1.2 AND{dragon} AND{knight}:0.5"]


def test_comments_are_gone_before_and_an_empty_prompt_stays_empty(host):
    p = Processing(["a castle# to be better", "", ", "], [1, 2, 3])
    host.script.process(p, True, -1, *BLANK)
    assert p.all_prompts[0].startswith("a castle, ") and p.all_prompts[1:] == ["", ", "]


def test_a_hires_prompt_is_rewritten_with_its_pictures_seed(host, enhancer):
    same = Processing(["a castle"] * 2, [1, 2], all_hr_prompts=["a castle"] * 2, enable_hr=True)
    host.script.process(same, True, -1, *BLANK)
    assert same.all_hr_prompts == same.all_prompts
    plain = ["a ruin, ink drawing"] * 2
    own = Processing(["a castle, ink drawing"] * 2, [1, 2], all_hr_prompts=plain, enable_hr=True)
    host.script.process(own, True, -1, *BLANK)
    assert own.all_hr_prompts == [enhancer(plain[0], seed=seed).text for seed in (1, 2)]
    assert paste(host, own.infotext(1))[1]["Hires prompt"] == "a ruin"  # and "ink" is a style again


def test_pasting_a_picture_brings_back_what_was_typed_and_draws_it_again(host):
    settings = [True, -1, "", "art nouveau", "", "", "", "auto", "fog", "8k, hdr", True]
    settings += ["embedded", "sdxl", "castle", True, "", 0]
    p = Processing(["a castle, at night, ink drawing"] * 2, [8, 9], ["people"] * 2)
    host.script.process(p, *settings)
    params = p.infotext(1)
    assert params["Prompt"] == p.all_prompts[1] and params["neuroprompt plain"] == "a castle, at night, ink drawing"

    values, pasted = paste(host, params)
    assert values == settings
    assert (pasted["Prompt"], pasted["Negative prompt"]) == ("a castle, at night", "people")
    assert pasted["Styles array"] == ["ink"]  # whose text the host adds again
    again = Processing([f"{pasted['Prompt']}, ink drawing"], [9], [pasted["Negative prompt"]])
    host.script.process(again, *values)
    assert (again.all_prompts, again.all_negative_prompts) == (p.all_prompts[1:], p.all_negative_prompts[1:])


def test_pasting_another_picture_turns_the_switch_off(host):
    values, pasted = paste(host, {"Prompt": "a cat, 8k", "neuroprompt seed": "3", "neuroprompt if_better": "0"})
    assert values[0] is False and pasted["Prompt"] == "a cat, 8k"


def test_switched_off_it_does_nothing(host):
    p = Processing(["a castle"], [1])
    host.opts.neuroprompt_url = "http://127.0.0.1:9"
    host.script.process(p, False, -1, *BLANK)
    assert (p.all_prompts, p.extra_generation_params, p.comments) == (["a castle"], {}, {})


def test_without_a_server_the_plain_prompt_is_drawn_and_three_places_say_why(host, capsys):
    p = Processing(["a castle"] * 2, [1, 2])
    host.opts.neuroprompt_url = "http://127.0.0.1:9"
    host.script.process(p, True, -1, *BLANK)
    assert p.all_prompts == ["a castle"] * 2
    for place in (*p.comments, p.infotext(1)["neuroprompt warning"], capsys.readouterr().err):
        assert "start one with `neuroprompt serve" in place and "The plain prompt was drawn." in place


def test_controls_are_basic_and_the_settings_page_has_the_address(host):
    controls = host.script.ui(True)
    assert all(isinstance(control, Control) for control in controls) and len(controls) == 2 + len(BLANK)
    assert [control.value for control in controls] == [False, -1, *BLANK]
    host.adders[0]()
    assert host.settings["neuroprompt_url"].restrict_api  # or who may draw could have the key sent anywhere
    readme = (INTEGRATIONS / "a1111" / "README.md").read_text()
    names = ", ".join(["enabled", "seed", *host.module.EXAMPLES, "negative", *host.module.ASKING])
    assert f"`[{names}]`" in readme

"""Questions of a chat model, from a server of our own."""

import json

import pytest

from neuroprompt.questions import Question, ask, read_questions, rules
from neuroprompt.questions.chat import TRIES
from neuroprompt.wire import RemoteError
from tests.search.test_chat import server  # noqa: F401, a fixture
from tests.test_cli import run_command

ANSWER = [
    {"id": 1, "question": "Is there a fox?", "kind": "entity", "parents": []},
    {"id": 2, "question": "Is the fox sly?", "kind": "attribute", "parents": [1]},
]
SLY = (Question("Is there a fox?"), Question("Is the fox sly?", "attribute", (0,)))


def told(answer):
    return 200, f"<think>a [fox]?</think>Here:\n```json\n{json.dumps(answer)}\n```"


def test_what_a_model_writes_is_kept_and_not_asked_again(server, tmp_path):  # noqa: F811
    path = tmp_path / "questions.json"
    server.answers = [told(ANSWER)]
    assert ask(server.url, "tiny", ["a sly fox"], path, key="secret") == {"a sly fox": SLY} == read_questions(path)
    asked, headers, body = server.requests[0]
    assert asked == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "tiny" and "a sly fox" in body["messages"][1]["content"]
    assert "secret" not in path.read_text()
    done = []
    ask(server.url, "tiny", ["a sly fox", " a sly fox", "an owl"], path, on_prompt=lambda *of: done.append(of))
    assert len(server.requests) == 2 and done == [(1, 1)] and set(read_questions(path)) == {"a sly fox", "an owl"}


@pytest.mark.parametrize(
    "answer",
    [
        "Yes, of course!",
        "[" * 5000 + "]" * 5000,
        json.dumps([]),
        json.dumps([3]),
        json.dumps([ANSWER[0] | {"parents": [1, 2]}, ANSWER[1]]),  # a circle
        json.dumps([ANSWER[0] | {"parents": ["air"]}]),
        json.dumps([ANSWER[0], ANSWER[0] | {"id": 2, "kind": "mood"}]),
        json.dumps([{"id": 1, "question": ["Is there a fox?"]}]),
    ],
)
def test_what_is_no_list_of_questions_is_asked_for_again_and_then_rules_do(server, tmp_path, answer):  # noqa: F811
    faults = []
    server.answers = [(200, answer)]
    found = ask(server.url, "tiny", ["a red fox"], tmp_path / "questions.json", on_fault=faults.append)
    assert found["a red fox"] == rules("a red fox")
    assert len(server.requests) == TRIES and len(faults) == 1 and "tiny makes no questions" in faults[0]


def test_a_server_that_leads_elsewhere_or_is_gone_ends_it_with_what_there_is(server, tmp_path):  # noqa: F811
    path = tmp_path / "questions.json"
    server.answers = [told(ANSWER), (302, "")]
    with pytest.raises(RemoteError, match="leads on to"):
        ask(server.url, "tiny", ["a sly fox", "an owl"], path)
    assert set(read_questions(path)) == {"a sly fox"}
    with pytest.raises(RemoteError, match="does not answer"):
        ask("http://127.0.0.1:9/v1", "tiny", ["an owl"], path, timeout=2)
    with pytest.raises(ValueError, match="no URL of a chat model"):
        ask("localhost:8080", "tiny", ["an owl"], path)


def test_the_command(server, tmp_path, monkeypatch, capsys):  # noqa: F811
    def run(*arguments):
        return run_command(monkeypatch, capsys, "questions", *arguments)

    _, printed, _ = run("a red cube on a blue sphere")
    assert printed.splitlines() == [question.text for question in rules("a red cube on a blue sphere")]
    path = str(tmp_path / "questions.json")
    assert run("an owl", "-o", path)[0] == 0
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.answers = [told(ANSWER)]
    _, printed, _ = run("an owl", "a sly fox", "--ask", server.url, "--ask-model", "tiny", "-o", path, "--json")
    assert [json.loads(line)["prompt"] for line in printed.splitlines()] == ["an owl", "a sly fox"]
    assert read_questions(path) == {"an owl": rules("an owl"), "a sly fox": SLY} and len(server.requests) == 1
    (tmp_path / "broken.json").write_text('{"a": {"questions": {"1": "?"}, "dependencies": {"1": [2]}}}')
    code, _, said = run("--known", str(tmp_path / "broken.json"), "-o", path)
    assert code == 0 and "question 1 of 'a' waits for '2'" in said
    assert read_questions(path)["a"] == (Question("?"),)
    for wrong in (["an owl", "--ask", server.url], ["--known", "no.csv"], ["an owl", "-o", "questions.txt"]):
        code, _, said = run(*wrong)
        assert code and said.count("\n") == 1

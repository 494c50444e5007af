"""Questions of a chat model behind an OpenAI-compatible URL, kept in a file: what is in it is not asked again.

The model reads what an atom is and one example, and answers in JSON. An answer is checked like a file: one that is no
list of questions, or whose dependencies lead nowhere or in a circle, is asked for again, and after `TRIES` the prompt
gets the questions of rules. So a model that does not understand costs time, and never a wrong number.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from neuroprompt.questions.files import read_parts, read_questions, write_questions
from neuroprompt.questions.question import KINDS, Question
from neuroprompt.questions.rules import rules
from neuroprompt.wire import RemoteError, Server, Trouble

TRIES = 3
"""How often a prompt is asked about."""
MOST = 40
"""Questions of a prompt that are read."""


def ask(
    url: str,
    model: str,
    prompts: Sequence[str],
    path: str | Path,
    *,
    key: str | None = None,
    timeout: float = 120.0,
    on_prompt: Callable[[int, int], None] | None = None,
    on_fault: Callable[[str], None] | None = None,
) -> dict[str, tuple[Question, ...]]:
    """Have a chat model write questions for prompts, into a question file that grows with each.

    Args:
        url: Up to and with the version, such as ``http://localhost:8080/v1``. Nobody else is asked.
        model: Its name there.
        prompts: Those that the file has questions for are passed over.
        path: A ``.json`` file, which may be there.
        key: Sent as a bearer token, and kept nowhere.
        timeout: Seconds that an answer may take.
        on_prompt: Gets how many prompts are done, and of how many, after each.
        on_fault: Gets a line for each prompt that the model makes nothing of, whose questions are those of rules.

    Returns:
        All that the file holds.

    Raises:
        ValueError: The URL is none, or the file is no question file.
        RemoteError: The server refuses, or does not answer; the file has what came before.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a chat model: give one such as http://localhost:8080/v1")
    if Path(path).suffix.lower() != ".json":
        raise ValueError(f"{path}: questions are written to a .json file")
    known = read_questions(path) if Path(path).exists() else {}
    server = Server(url.rstrip("/"), key, timeout, longest=1 << 20, key_place="OPENAI_API_KEY to its key")
    todo = [prompt for prompt in dict.fromkeys(prompt.strip() for prompt in prompts) if prompt not in known]
    for done, prompt in enumerate(todo, 1):
        found = _ask(server, model, prompt)
        if found is None and on_fault:
            on_fault(f"{model} makes no questions of {prompt[:60]!r}: they are those of rules")
        known[prompt] = found or rules(prompt)
        write_questions(path, known)
        if on_prompt:
            on_prompt(done, len(todo))
    return known


def read_answer(answer: str, prompt: str) -> tuple[Question, ...]:
    """The questions in a chat model's answer: a JSON list, whatever stands around it.

    Raises:
        ValueError: There is none, or it is broken.
    """
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL)
    try:
        made = json.loads(text[text.index("[") : text.rindex("]") + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON list ({error})") from error
    if not 0 < len(made) <= MOST or not all(isinstance(entry, dict) for entry in made):
        raise ValueError(f"it is no list of 1 to {MOST} questions")
    keys = [str(entry.get("id")) for entry in made]
    names = {"questions": "question", "kinds": "kind", "dependencies": "parents"}
    return read_parts(
        {
            part: {key: entry[name] for key, entry in zip(keys, made, strict=True) if name in entry}
            for part, name in names.items()
        },
        prompt,
    )


def _ask(server: Server, model: str, prompt: str) -> tuple[Question, ...] | None:
    """What the model makes of a prompt; None where nothing can be read of it."""
    for attempt in range(TRIES):
        body = {
            "model": model,
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": f"The prompt: {prompt}"},
            ],
            "temperature": 0 if not attempt else 0.7,
            "seed": attempt,
            "max_tokens": 100 * MOST,
        }
        try:
            said = server.post("/chat/completions", body)
        except Trouble as trouble:
            raise RemoteError(f"{server.url} does not answer ({trouble}): what it has written is kept") from trouble
        try:
            return read_answer(said["choices"][0]["message"]["content"], prompt)
        except (ValueError, LookupError, TypeError):
            continue
    return None


INSTRUCTION = f"""\
You turn a prompt for an image into questions about the picture, each about one thing that the prompt says and a \
viewer can see. Every question is answered "yes" by a picture that shows the prompt. Ask about each thing before its \
count, colour, other attributes, and relations; "parents" are the ids of the questions that must be answered "yes" \
first. Ask nothing that the prompt does not say. The kinds are {", ".join(KINDS)}; an action is a relation, and a \
style global.
Answer with a JSON list alone, such as, for "two red foxes on a bridge, watercolor":
[{{"id": 1, "question": "Are there foxes?", "kind": "entity", "parents": []}},
 {{"id": 2, "question": "Are there two foxes?", "kind": "count", "parents": [1]}},
 {{"id": 3, "question": "Are the foxes red?", "kind": "colour", "parents": [1]}},
 {{"id": 4, "question": "Is there a bridge?", "kind": "entity", "parents": []}},
 {{"id": 5, "question": "Are the foxes on the bridge?", "kind": "relation", "parents": [1, 4]}},
 {{"id": 6, "question": "Is this a watercolor?", "kind": "global", "parents": []}}]"""
"""What the chat model is told."""

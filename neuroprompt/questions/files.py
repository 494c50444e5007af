"""Question files: those of the benchmarks, as their authors publish them, and our own.

- ``.csv`` of DSG-1k and DPG-Bench: a row a question, with the columns ``text`` (the prompt),
  ``proposition_id``, ``dependency`` ("0", or ids with commas), ``category_broad``, ``category_detailed`` and
  ``question_natural_language``. (Cho et al. 2024, github.com/j-min/DSG; Hu et al. 2024, github.com/TencentQQGYLab/ELLA)
- ``.jsonl`` of GenEval: a line a prompt, with ``include``: objects with ``class``, ``count``, ``color`` and
  ``position`` (a relation and the place of the other object). (Ghosh et al. 2023, github.com/djghosh13/geneval)
- ``.jsonl`` of GenEval 2: a line a prompt, with ``vqa_list``, pairs of question and answer, and their ``skills``. They
  wait for none. (Kamath et al. 2025, github.com/facebookresearch/GenEval2)
- ``.json``, which `write_questions` writes: DSG's parts by prompt, each by the question's id::

      {"a red fox": {"questions": {"1": "Is there a fox?", "2": "Is the fox red?"},
                     "dependencies": {"2": [1]}, "kinds": {"1": "entity", "2": "colour"}}}

  Of these only ``questions`` must be there. ``answers`` has what is wanted where that is not "yes", and ``tuples`` is
  read, as DSG has it ("attribute - color (fox, red)"), where there are no ``kinds``.

A prompt is known without what surrounds it. Where it is there twice, its first questions count. An id that is its own
parent, of which DSG-1k has many, waits for nothing more than itself, and so for nothing.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError
from pathlib import Path
from typing import Any, NamedTuple

from neuroprompt.files import write_file
from neuroprompt.questions.question import KINDS, Question, in_order
from neuroprompt.questions.wording import are_there, count_in_words, is_colour, is_there, plural, with_article

QUESTION_FILES = (".csv", ".json", ".jsonl")


def read_questions(path: str | Path, on_fault: Callable[[str], None] | None = None) -> dict[str, tuple[Question, ...]]:
    """The questions of a file, by prompt.

    Args:
        on_fault: Gets a line for each prompt whose dependencies lead nowhere or in a circle, which it then has none of
            (as in DSG's own reader); by default that is an error.

    Raises:
        ValueError: It is no such file, or a row of it is broken; the message names file and row.
    """
    path = Path(path)
    if path.suffix.lower() not in QUESTION_FILES:
        raise ValueError(f"{path}: questions are read from {', '.join(QUESTION_FILES)} files")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text (byte {error.start + 1:,})") from error
    read = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_lines}[path.suffix.lower()]
    found: dict[str, tuple[Question, ...]] = {}
    try:
        for prompt, questions in read(text):
            if isinstance(questions, list):
                questions = _resolved(prompt, questions, path, on_fault)
            found.setdefault(prompt.strip(), questions)
    except _BrokenError as error:
        raise ValueError(f"{path}, {error}") from error
    if not found:
        raise ValueError(f"{path} holds no questions")
    return found


def write_questions(path: str | Path, questions: Mapping[str, Sequence[Question]]) -> None:
    """Write a ``.json`` question file, whole or not at all."""
    made = {prompt: _parts(own) for prompt, own in questions.items()}
    write_file(path, (json.dumps(made, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def read_parts(parts: Any, prompt: str) -> tuple[Question, ...]:
    """The questions of one prompt in DSG's parts.

    Raises:
        ValueError: They are none; the message names the question.
    """
    return _resolved(prompt, list(_rows_of_parts(parts, prompt)))


# --- rows --------------------------------------------------------------------------------------------------------


class _BrokenError(ValueError):
    """A row that is none; the message begins with its place in the file."""


class _Row(NamedTuple):
    """A question as it stands in a file, with its parents' ids."""

    place: str
    id: str
    question: Question
    parents: tuple[str, ...]


def _resolved(
    prompt: str, rows: Sequence[_Row], path: Path | None = None, on_fault: Callable[[str], None] | None = None
) -> tuple[Question, ...]:
    """The rows of a prompt as questions that know their parents."""
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        if places.setdefault(row.id, place) != place:
            raise _BrokenError(f"{row.place}: question {row.id} of {prompt[:60]!r} is there twice")
    try:
        parents = [tuple(_places(row, places, prompt)) for row in rows]
        try:
            in_order(parents)
        except CycleError as error:
            circle = error.args[1]
            shown = " → ".join(rows[place].id for place in reversed(circle))
            raise _BrokenError(
                f"{rows[circle[0]].place}: the questions of {prompt[:60]!r} wait for each other ({shown})"
            ) from error
    except _BrokenError as error:
        if on_fault is None:
            hint = ": mend it, or let `neuroprompt questions --known FILE` leave such dependencies out"
            raise _BrokenError(f"{error}{hint if path else ''}") from error
        on_fault(f"{path}, {error}: they wait for none now")
        parents = [()] * len(rows)
    return tuple(replace(row.question, parents=own) for row, own in zip(rows, parents, strict=True))


def _places(row: _Row, places: Mapping[str, int], prompt: str) -> Iterator[int]:
    for parent in dict.fromkeys(row.parents):
        if parent in ("0", "", "-", row.id):
            continue
        if parent not in places:
            raise _BrokenError(
                f"{row.place}: question {row.id} of {prompt[:60]!r} waits for {parent[:20]!r}, which is none of its "
                "questions"
            )
        yield places[parent]


# --- DSG -----------------------------------------------------------------------------------------------------------

_COLUMNS = ("text", "proposition_id", "dependency", "question_natural_language")


def _read_csv(text: str) -> Iterator[tuple[str, list[_Row]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    prompts: dict[tuple[str, str], list[_Row]] = {}
    number = 1
    try:
        if missing := [column for column in _COLUMNS if column not in (reader.fieldnames or ())]:
            raise _BrokenError(f"row 1: there is no column {missing[0]!r}, as DSG's files have it")
        for number, cells in enumerate(reader, 2):
            if None in cells or None in cells.values():
                raise _BrokenError(
                    f"row {number}: it has more or fewer cells than the {len(reader.fieldnames)} columns"
                )
            kind = f"{cells.get('category_broad') or cells.get('tuple', '')} {cells.get('category_detailed', '')}"
            question = _question(cells["question_natural_language"], _kind_of(kind), "yes", f"row {number}")
            row = _Row(f"row {number}", cells["proposition_id"].strip(), question, _ids(cells["dependency"]))
            prompts.setdefault((cells.get("item_id", ""), cells["text"]), []).append(row)
    except csv.Error as error:
        raise _BrokenError(f"row {number + 1}: {error}") from error
    return ((prompt, rows) for (_, prompt), rows in prompts.items())


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _kind_of(category: str) -> str:
    """The kind of a question by DSG's categories, such as "attribute - color (fox, red)"."""
    broad, _, detail = category.lower().partition("(")[0].strip().partition(" ")
    if "count" in detail:
        return "count"
    if re.search(r"colou?r", detail):
        return "colour"
    return {"action": "relation", "other": "attribute"}.get(broad, broad if broad in KINDS else "attribute")


def _read_json(text: str) -> Iterator[tuple[str, list[_Row]]]:
    for prompt, parts in _object(text, "as a whole").items():
        yield prompt, list(_rows_of_parts(parts, prompt))


def _rows_of_parts(parts: Any, prompt: str) -> Iterator[_Row]:
    place = f"{prompt[:60]!r}"
    if not isinstance(parts, dict) or not isinstance(parts.get("questions"), dict) or not parts["questions"]:
        raise _BrokenError(f"{place}: it has no questions")
    for name in ("dependencies", "kinds", "tuples", "answers"):
        if not isinstance(parts.get(name, {}), dict):
            raise _BrokenError(f"{place}: its {name} are no object, with a key for each question")
        if unknown := [key for key in parts.get(name, {}) if key not in parts["questions"]]:
            raise _BrokenError(f"{place}: its {name} have {unknown[0][:20]!r}, which is none of its questions")
    kinds, tuples = parts.get("kinds", {}), parts.get("tuples", {})
    for key, text in parts["questions"].items():
        own = f"{place}, question {key[:20]}"
        kind = kinds.get(key) or _kind_of(str(tuples.get(key, "entity")))
        if kind not in KINDS:
            raise _BrokenError(f"{own}: its kind is {str(kind)[:20]!r}: choose from {', '.join(KINDS)}")
        parents = parts.get("dependencies", {}).get(key, [])
        if not isinstance(parents, list) or not all(isinstance(parent, int | str) for parent in parents):
            raise _BrokenError(f"{own}: its dependencies are no list of questions")
        question = _question(text, kind, parts.get("answers", {}).get(key, "yes"), own)
        yield _Row(own, key.strip(), question, tuple(str(parent).strip() for parent in parents))


def _parts(questions: Sequence[Question]) -> dict[str, dict]:
    """Questions in DSG's parts, with ids from 1."""
    ids = [str(place) for place in range(1, len(questions) + 1)]

    def part(values: Iterable[Any]) -> dict[str, Any]:
        return {key: value for key, value in zip(ids, values, strict=True) if value is not None}

    made = {
        "questions": part(question.text for question in questions),
        "dependencies": part([place + 1 for place in question.parents] or None for question in questions),
        "kinds": part(question.kind for question in questions),
        "answers": part(None if question.answer == "yes" else question.answer for question in questions),
    }
    return {name: own for name, own in made.items() if own}


# --- GenEval -------------------------------------------------------------------------------------------------------

_SKILLS = {"object": "entity", "count": "count", "attribute": "attribute", "position": "relation", "verb": "relation"}
_POSITIONS = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}


def _read_lines(text: str) -> Iterator[tuple[str, tuple[Question, ...]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        record = _object(line, place)
        if not isinstance(record.get("prompt"), str):
            raise _BrokenError(f'{place}: it has no "prompt" with a string')
        try:
            if "vqa_list" in record:
                yield record["prompt"], tuple(_of_geneval_2(record, place))
            elif "include" in record:
                yield record["prompt"], tuple(_of_geneval(record["include"], place))
            else:
                raise _BrokenError(f'{place}: it has neither GenEval\'s "include" nor GenEval 2\'s "vqa_list"')
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise _BrokenError(f"{place}: it is not as GenEval has it ({type(error).__name__}: {error})") from error


def _of_geneval_2(record: Mapping[str, Any], place: str) -> Iterator[Question]:
    pairs = record["vqa_list"]
    skills = record.get("skills") or ["attribute"] * len(pairs)
    if not pairs or len(skills) != len(pairs):
        raise _BrokenError(f"{place}: it has {len(pairs)} questions and {len(skills)} skills")
    for (text, answer), skill in zip(pairs, skills, strict=True):
        kind = _SKILLS.get(skill, "attribute")
        colour = kind == "attribute" and is_colour(text.rstrip("? ").rpartition(" ")[2])
        yield _question(text, "colour" if colour else kind, answer, place)


def _of_geneval(objects: Sequence[Mapping[str, Any]], place: str) -> Iterator[Question]:
    if not objects:
        raise _BrokenError(f"{place}: it includes no object")
    entities: list[int] = []  # their places
    made: list[Question] = []
    for thing in objects:
        name, count = thing["class"], thing.get("count", 1)
        several = count > 1
        entities.append(len(made))
        made.append(Question(are_there(plural(name)) if several else is_there(with_article(name))))
        if several:
            made.append(Question(are_there(plural(name), count_in_words(count)), "count", (entities[-1],)))
    for thing, own in zip(objects, entities, strict=True):
        be, name = ("Are", plural(thing["class"])) if thing.get("count", 1) > 1 else ("Is", thing["class"])
        if "color" in thing:
            made.append(Question(f"{be} the {name} {thing['color']}?", "colour", (own,)))
        if "position" in thing:
            relation, other = thing["position"]
            where = f"{_POSITIONS.get(relation, relation)} the {objects[other]['class']}"
            made.append(Question(f"{be} the {name} {where}?", "relation", (own, entities[other])))
    yield from made


# --- what is read --------------------------------------------------------------------------------------------------


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _BrokenError(f"{place}: it is no JSON ({error})") from error
    if not isinstance(made, dict):
        raise _BrokenError(f"{place}: it is no JSON object, with braces")
    return made


def _question(text: Any, kind: str, answer: Any, place: str) -> Question:
    if not isinstance(text, str) or not text.strip():
        raise _BrokenError(f"{place}: it has no question")
    if len(text) > _LONGEST:
        raise _BrokenError(f"{place}: a question has {len(text):,} characters, and {_LONGEST} are read")
    if not isinstance(answer, str) or not answer.strip():
        raise _BrokenError(f"{place}: the answer to {text[:60]!r} is no text")
    return Question(" ".join(text.split()), kind, answer=answer.strip().lower())


_LONGEST = 1 << 16
"""Characters of a question, which may hold all of a prompt."""

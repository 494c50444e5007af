import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprompt.questions import KINDS, Question, prune, read_questions, write_questions

DSG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
x_1,"A red fox, and two owls.",fox,1,0,entity,whole,entity - whole (fox),Is there a fox?
x_1,"A red fox, and two owls.",owls,2,0,entity,whole,entity - whole (owls),Are there owls?
x_1,"A red fox, and two owls.","fox, red",3,1,attribute,color,"attribute - color (fox, red)",Is the fox red?
x_1,"A red fox, and two owls.","owls, ==2",4,2,other,count,"other - count (owls, ==2)",Are there two owls?
x_1,"A red fox, and two owls.","fox, owls, near",5,"1,2,5",relation,spatial,"relation - spatial (…)",Is it near them?
x_2,a photo,photo,1,0,global,-,global - - (photo),Is this a photo?
"""
FOX = (
    Question("Is there a fox?"),
    Question("Are there owls?"),
    Question("Is the fox red?", "colour", (0,)),
    Question("Are there two owls?", "count", (1,)),
    Question("Is it near them?", "relation", (0, 1)),  # and not of itself
)


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def test_dsg(tmp_path):
    found = read_questions(write(tmp_path / "dsg.csv", DSG))
    assert found == {"A red fox, and two owls.": FOX, "a photo": (Question("Is this a photo?", "global"),)}


def test_geneval(tmp_path):
    records = [
        {
            "tag": "position",
            "include": [
                {"class": "bench", "count": 1, "color": "red"},
                {"class": "dog", "count": 1, "position": ["left of", 0]},
            ],
            "prompt": "a photo of a dog left of a red bench",
        },
        {
            "tag": "counting",
            "include": [{"class": "wine glass", "count": 3}],
            "exclude": [{"class": "wine glass", "count": 4}],
            "prompt": "a photo of three wine glasses",
        },
    ]
    found = read_questions(write(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, records)) + "\n"))
    assert found["a photo of a dog left of a red bench"] == (
        Question("Is there a bench?"),
        Question("Is there a dog?"),
        Question("Is the bench red?", "colour", (0,)),
        Question("Is the dog to the left of the bench?", "relation", (1, 0)),
    )
    assert found["a photo of three wine glasses"] == (
        Question("Are there wine glasses?"),
        Question("Are there three wine glasses?", "count", (0,)),
    )


def test_geneval_2(tmp_path):
    record = {
        "prompt": "four white bicycles",
        "atom_count": 3,
        "vqa_list": [["How many bicycles are in the image?", "four"], ["Are the bicycles white?", "Yes"]],
        "skills": ["count", "attribute"],
    }
    found = read_questions(write(tmp_path / "geneval2_data.jsonl", json.dumps(record)))
    count = Question("How many bicycles are in the image?", "count", answer="four")
    assert found == {"four white bicycles": (count, Question("Are the bicycles white?", "colour"))}


def words(least):
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
    return text.map(lambda made: " ".join(made.split())).filter(lambda made: len(made) >= least)


@st.composite
def questions(draw):
    order = draw(st.permutations(range(draw(st.integers(1, 6)))))  # parents stand before and behind
    return tuple(
        Question(
            draw(words(1)),
            draw(st.sampled_from(KINDS)),
            tuple(draw(st.lists(st.sampled_from([p for p in order if order[p] < rank]), unique=True))) if rank else (),
            draw(st.sampled_from(["yes", "no", "four"])),
        )
        for rank in order
    )


@given(known=st.dictionaries(words(1), questions(), min_size=1, max_size=3))
def test_what_is_written_is_read(tmp_path_factory, known):
    path = tmp_path_factory.getbasetemp() / "questions.json"
    write_questions(path, known)
    assert read_questions(path) == known


@given(questions(), st.data())
def test_what_waits_for_a_failed_question_counts_nothing(asked, data):
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(asked), max_size=len(asked)))

    def worth(place):  # DSG's rule, one question at a time
        return scores[place] if all(worth(parent) >= 0.5 for parent in asked[place].parents) else 0.0

    assert prune(asked, scores) == [worth(place) for place in range(len(asked))]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.txt", "Is there a fox?", "questions are read from .csv, .json, .jsonl files"),
        ("a.csv", "", "row 1: there is no column 'text'"),
        ("a.csv", DSG.replace("x_2,a photo,", "x_2,a photo"), "row 7: it has more or fewer cells than the 9 columns"),
        ("a.csv", DSG.replace("Is the fox red?", " "), "row 4: it has no question"),
        ("a.csv", DSG.replace('"1,2,5"', '"1,air"'), "row 6: question 5 of 'A red fox, and two owls.' waits for 'air'"),
        ("a.csv", DSG.replace("fox,1,0", "fox,1,4").replace(',4,2,', ',4,1,'), "wait for each other (1 → 4 → 1)"),
        ("a.csv", DSG.replace("owls,2,0", "owls,1,0"), "row 3: question 1 of 'A red fox, and two owls.' is there"),
        ("a.csv", DSG.replace("Is this a photo?", '"Is this'), "unexpected end of data"),
        ("a.json", "[]", "as a whole: it is no JSON object"),
        ("a.json", '{"a fox": {"questions": {}}}', "'a fox': it has no questions"),
        ("a.json", '{"a fox": {"questions": {"1": "Is?"}, "kinds": {"2": "entity"}}}', "its kinds have '2'"),
        ("a.json", '{"a fox": {"questions": {"1": "Is?"}, "kinds": {"1": "mood"}}}', "its kind is 'mood': choose from"),
        ("a.json", '{"a fox": {"questions": {"1": "Is?"}, "dependencies": {"1": 3}}}', "no list of questions"),
        ("a.jsonl", '{"prompt": "a fox"}', "line 1: it has neither GenEval's"),
        ("a.jsonl", '\n{"prompt": "a fox", "include": [{"class": 3}]}', "line 2: it is not as GenEval has it"),
        ("a.jsonl", '{"prompt": "a fox", "vqa_list": [], "skills": []}', "line 1: it has 0 questions"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_row(tmp_path, name, text, said):
    with pytest.raises(ValueError) as refused:
        read_questions(write(tmp_path / name, text))
    assert str(refused.value).startswith(str(tmp_path / name)) and said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_benchmarks_have_wrong_can_be_told_and_left_out(tmp_path):
    told = []
    broken = write(tmp_path / "dsg.csv", DSG.replace('"1,2,5"', '"1,air"'))
    found = read_questions(broken, on_fault=told.append)
    assert found["A red fox, and two owls."] == tuple(Question(q.text, q.kind) for q in FOX)
    assert len(told) == 1 and "row 6" in told[0]

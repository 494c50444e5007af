"""`neuroprompt questions`: what prompts say, as a question file."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from neuroprompt.cli.app import command, option
from neuroprompt.cli.options import Json, PromptOptions, check_file
from neuroprompt.cli.progress import RESUMES, working
from neuroprompt.terminal import counted, say, show, show_json


@command(
    'neuroprompt questions "two red foxes under a bridge"',
    "neuroprompt questions --input prompts.txt -o questions.json",
    "neuroprompt questions --input prompts.txt --ask http://localhost:8080/v1 --ask-model qwen3 -o questions.json",
    "neuroprompt questions --known dsg-1k-anns.csv -o questions.json",
)
def questions(
    *,
    prompts: PromptOptions,
    output: str | None = option(
        None, "A .json file, which grows: what is in it is kept. Without, the questions are printed.", "-o"
    ),
    known: str | None = option(
        None,
        "A question file of a benchmark to take over: DSG's .csv, or GenEval's .jsonl. Dependencies that lead nowhere "
        "or in a circle are said, and left out.",
    ),
    ask: str | None = option(
        None,
        "An OpenAI-compatible server whose chat model writes the questions; by default rules do. The variable "
        "OPENAI_API_KEY holds its key.",
    ),
    ask_model: str | None = option(None, "The server's model."),
    json_lines: Json = False,
) -> None:
    """Write questions about what prompts say: things, counts, colours, relations.

    The reward atoms asks them of pictures. Stopped or killed, the same command goes on from there.
    """
    from neuroprompt.files import refuse_same_file, sole_writer
    from neuroprompt.prompts import Window
    from neuroprompt.questions import ask as ask_chat_model
    from neuroprompt.questions import read_questions, rules, write_questions
    from neuroprompt.wire import read_key

    if bool(ask) != bool(ask_model):
        raise ValueError("a chat model needs both --ask and --ask-model")
    if ask and not output:
        raise ValueError("what a chat model writes is kept in a file: add -o questions.json")
    if output:
        check_file(output, (".json",))
        refuse_same_file(prompts.input, output)
        refuse_same_file(known, output)
    made = read_questions(known, on_fault=_warn) if known else {}
    if prompts.prompts or prompts.input or not known:
        wanted = [prompt.strip() for prompt in prompts.read(window=Window.of(None))]
    else:
        wanted = list(made)
    with ExitStack() as stack:
        if output:
            stack.enter_context(sole_writer(output))
            made |= read_questions(output) if Path(output).exists() else {}
        if ask:
            work = stack.enter_context(working("prompt", f"{output} has the others; {RESUMES}"))
            work.stage("asking")
            if made:
                write_questions(output, made)
            key = read_key("OPENAI_API_KEY")
            made = ask_chat_model(ask, ask_model, wanted, output, key=key, on_prompt=work.update, on_fault=_warn)
        else:
            made |= {prompt: rules(prompt) for prompt in wanted if prompt not in made}
            if output:
                write_questions(output, made)
    for prompt in wanted:
        if json_lines:
            show_json({"prompt": prompt, "questions": [asdict(question) for question in made[prompt]]})
        elif not output:
            for question in made[prompt]:
                show(question.text)
    if output:
        total = sum(map(len, made.values()))
        say(f"{output} has {counted(total, 'question')} about {counted(len(made), 'prompt')}")


def _warn(fault: str) -> None:
    say(fault, "warning:", "yellow")

"""What a prompt says, as questions about its picture, each of one thing: its atoms.

    questions = read_questions("dsg-1k-anns.csv")                  # of a benchmark, by prompt
    rules("a red fox on a bridge")                                 # of any prompt, what rules can ask
    ask(server, "qwen3", ["a red fox on a bridge"], "mine.json")   # of a chat model, kept in a file

A question waits for its parents (Davidsonian Scene Graph, Cho et al. 2024): whether the fox is red is not asked of a
picture without a fox. `prune` is that rule; `neuroprompt.rewards.atoms` gets the answers.
"""

from .chat import ask
from .files import QUESTION_FILES, read_questions, write_questions
from .question import KINDS, SHOWN, Question, prune
from .rules import rules, whole

__all__ = [
    "KINDS",
    "QUESTION_FILES",
    "SHOWN",
    "Question",
    "ask",
    "prune",
    "read_questions",
    "rules",
    "whole",
    "write_questions",
]

"""What `make demo` shows: a plain prompt, and what the embedded policy makes of it.

python scripts/demo.py "a castle by the sea"
"""

import sys

from rich.console import Console
from transformers.utils import logging

from neuroprompt.enhancer import PromptEnhancer


def main() -> None:
    logging.disable_progress_bar()
    console = Console(highlight=False)
    enhancer = PromptEnhancer.from_pretrained()
    for result in enhancer(sys.argv[1:] or ["boy on a horse"]):
        console.print(f"[bold]plain   [/] {result.original}\n[bold]enhanced[/] {result.text}", soft_wrap=True)


if __name__ == "__main__":
    main()

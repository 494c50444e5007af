"""What `make demo` shows: plain prompts, what the embedded policy makes of them, and both drawn and scored.

python scripts/demo.py "a castle by the sea" -o demo.png
"""

from typing import Annotated

import typer
from rich.text import Text

from neuroprompt.cli.options import check_file
from neuroprompt.cli.progress import working
from neuroprompt.completions import check_prompt
from neuroprompt.image_files import SUFFIXES
from neuroprompt.programs import run
from neuroprompt.terminal import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    prompts: Annotated[list[str] | None, typer.Argument(help="Plain prompts.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .jpg or .webp file.")] = "demo.png",
) -> None:
    """Rewrite plain prompts, and draw and score both."""
    check_file(output, SUFFIXES)
    prompts = prompts or ["boy on a horse", "a castle"]
    for prompt in prompts:
        check_prompt(prompt)
    with working("picture") as work:
        from neuroprompt.evaluation.comparison import compare_pictures
        from neuroprompt.evaluation.methods import parse_methods
        from neuroprompt.images import ImageGenerator
        from neuroprompt.pages.grid import save_grid
        from neuroprompt.rewards import load_rewards
        from neuroprompt.scoring import PromptReward

        judge = load_rewards("pickscore,aesthetic,clip", "embedded")
        reward = PromptReward(ImageGenerator.from_pretrained(), judge, images_per_prompt=2)
        methods, total = parse_methods("plain,enhanced", reward=reward), 2 * 2 * len(prompts)
        work.stage("rewriting")
        grid = compare_pictures(prompts, methods, reward, on_progress=lambda done: work.update(done, total, "drawing"))
        save_grid(grid, output)
    for plain, enhanced in grid.rows:
        for name, text in (("plain   ", plain.text), ("enhanced", enhanced.text)):
            console.print_line(Text.assemble((name, "bold"), " ", text))
    console.print_line(Text.assemble(("drawn   ", "bold"), " ", output))


if __name__ == "__main__":
    run(app)

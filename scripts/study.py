"""The study of modifiers, from a checkout: `neuroprompt study` by another name, for `accelerate launch` and `torchrun`.

accelerate launch scripts/study.py --axes style,booster --input prompts.txt -o results/modifiers
torchrun --nproc_per_node 2 scripts/study.py --axes style,booster --input prompts.txt -o results/modifiers
"""

import sys

from neuroprompt.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "study")
    main()

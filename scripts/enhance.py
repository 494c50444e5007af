"""Rewrite prompts, from a checkout: `neuroprompt enhance` by another name.

python scripts/enhance.py "boy on a horse"
"""

import sys

from neuroprompt.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "enhance")
    main()

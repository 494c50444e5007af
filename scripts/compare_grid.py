"""The comparison grid, from a checkout: `neuroprompt grid` by another name.

python scripts/compare_grid.py "boy on a horse" "a castle" -o grid.png
"""

import sys

from neuroprompt.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "grid")
    main()

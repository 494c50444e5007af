"""neuroprompt: plain image prompts in, expert ones out."""

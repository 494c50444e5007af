"""Which way to rewrite prompts is best: methods on the same prompts and seeds, scored by pictures, with intervals."""

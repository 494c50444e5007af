"""`neuroprompt serve`: the rewriter, and a generator behind it, over HTTP."""

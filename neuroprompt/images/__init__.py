"""Pictures from prompts: `ImageGenerator`, over a pipeline of diffusers in this process or over a server behind a URL.

What it offers is in `__init__.pyi`, and imported on first use: the settings, and the clients of `remote`, need no
PyTorch.
"""

from neuroprompt.extras import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

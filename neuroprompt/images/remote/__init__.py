"""Generators behind a URL: the servers that people run already, as one that draws.

    pool = Pool("http://gpu1:7860,http://gpu2:7860", RemoteConfig(steps=20, size=512))
    pictures = pool.draw(["a castle"], [0])          # files, and what they hold decoded

A server that was not said to speak one (`RemoteConfig.api`, or a workflow) is asked, in this order: ``GET /info``
(``neuroprompt serve``), ``GET /v1/models`` (an OpenAI-style images API), ``GET /sdapi/v1/options`` (AUTOMATIC1111,
Forge), ``GET /system_stats`` (ComfyUI).

No PyTorch here: `images.RemoteGenerator`, in `generator`, makes tensors of it.
"""

from neuroprompt.images.config import RemoteConfig
from neuroprompt.images.remote.dialect import Model, Picture
from neuroprompt.images.remote.pool import DIALECTS, Pool
from neuroprompt.wire import RemoteError, Server, Trouble, Unavailable

__all__ = ["DIALECTS", "Model", "Picture", "Pool", "RemoteConfig", "RemoteError", "Server", "Trouble", "Unavailable"]

"""One thread a process (the suite runs in parallel), no network, and the embedded policy, and a server, loaded once."""

import gc
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from tests.servers import server, start  # noqa: F401 (fixtures)

# a shell's background jobs ignore interrupts, and so would the programs that the tests start and stop
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("suite", deadline=None, max_examples=60)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays, and no garbage collection need look at it: neither meanwhile nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)  # when it is known which tests are left out
def pytest_collection_modifyitems(items):
    """Of two processes, which take a half of the list each, from its beginning, one alone starts the server, and the
    other alone imports what programs are forked with: ten to twenty seconds of a core each."""
    served, forking, others = [], [], []
    for item in items:
        here = item.path.parent.name in ("server", "integrations")
        (served if here else forking if hasattr(item.module, "forks") else others).append(item)
    middle = max(len(items) // 2 - len(served), 0)
    items[:] = served + others[:middle] + forking + others[middle:]


@pytest.fixture(scope="session")
def enhancer():
    from neuroprompt.enhancer import PromptEnhancer

    return PromptEnhancer.from_pretrained("embedded", device="cpu")

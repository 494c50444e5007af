"""The memory that a run really takes on a CPU, by what torch's allocator reports to its profiler."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def measured_bytes(run: Callable[[], object]) -> int:
    """The most bytes that `run` holds at once beyond what was there."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most

"""What Prometheus is told, by route, status and part; never by anything that came in a request."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from neuroprompt.server.workers import Part

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one server, in a registry of its own."""

    def __init__(self):
        self._registry = CollectorRegistry()

        def make(kind, name: str, help: str, *labels: str, **settings):
            return kind(f"neuroprompt_{name}", help, labels, registry=self._registry, **settings)

        self.requests = make(Counter, "requests", "Requests that were answered.", "route", "status")
        self.latency = make(Histogram, "request_seconds", "From request to answer.", "route", buckets=SECONDS)
        self.concurrent = make(Gauge, "concurrent_requests", "Requests that are in the house.")
        self.batch_sizes = make(Histogram, "batch_size", "Requests that were answered at once.", "part", buckets=SIZES)
        self.restarts = make(Counter, "worker_restarts", "Processes that were started again.", "part")
        self._waiting = make(Gauge, "queue_length", "Requests that no process is at yet.", "part")
        self._ready = make(Gauge, "workers_ready", "Processes that are loaded.", "part")

    def watch(self, part: "Part") -> None:
        """Show a part's queue and processes, as they are when somebody looks."""
        self._waiting.labels(part.name).set_function(lambda: len(part.queue))
        self._ready.labels(part.name).set_function(lambda: part.states.count("ready"))
        self.restarts.labels(part.name)  # 0 is shown, too

    def text(self) -> bytes:
        return generate_latest(self._registry)

"""The counters of ``/metrics``, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)


class Counts:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = {"registry": self._registry}
        self.requests = Counter(
            "diffad_requests_total", "HTTP requests", ("path", "status"), **kept
        )
        self.latency = Histogram(
            "diffad_request_seconds",
            "from the first byte of a request to the last of its answer",
            ("path",),
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            **kept,
        )
        self.verdicts = Counter("diffad_verdicts_total", "photos judged", ("verdict",), **kept)
        self.corrections = Counter("diffad_corrections_total", "kept", ("label",), **kept)
        self.webhooks = Counter(
            "diffad_webhooks_total", "notices to the webhook, by their end", ("end",), **kept
        )
        self._waiting = Gauge("diffad_photos_waiting", "photos not answered yet", **kept)

    def watch_waiting(self, number: Callable[[], float]) -> None:
        """Makes the gauge of waiting photos call ``number``."""
        self._waiting.set_function(number)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)

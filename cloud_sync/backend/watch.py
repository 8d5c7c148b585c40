"""How a worker is seen from outside: three pages over HTTP.

`/metrics` is Prometheus' text format; `/healthz` says 200 while the database answers, `/readyz` while a broker has
granted the subscriptions too, else 503.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import failures
from cloud_sync.backend.service import COMMIT_SECONDS, BackendService

ANSWER_SECONDS_MAX: Final = 5.0
_TEXT: Final = "text/plain; charset=utf-8"


class Watch(Collector):
    """The pages of one worker, served from a thread until `close`."""

    def __init__(self, service: BackendService, host: str, port: int) -> None:
        """Listens at once; port 0 takes a free one. Raises OSError with what is wrong."""
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        try:
            self._server = ThreadingHTTPServer((host, port), _handler_of(self))
        except OSError as problem:
            raise OSError(problem.errno, f"cannot listen on {host} port {port}: {problem.strerror}") from problem
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="backend-watch", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def page(self, path: str) -> tuple[int, str, bytes]:
        """Status, media type and body. Called on a thread of the server."""
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(self._registry)
        if path == "/healthz":
            return (200, _TEXT, b"ok\n") if self._counters() is not None else _failing("the database does not answer")
        if path == "/readyz":
            if self._counters() is None:
                return _failing("the database does not answer")
            return (200, _TEXT, b"ready\n") if self._service.is_connected else _failing("no broker")
        return 404, _TEXT, b"/metrics, /healthz and /readyz\n"

    def collect(self) -> Iterator[Any]:
        """What Prometheus is told; the database's numbers are missing while it does not answer."""
        flow = self._service.flow
        counters = self._counters()
        yield GaugeMetricFamily("wattgate_database_up", "1: the database answers", int(counters is not None))
        yield GaugeMetricFamily("wattgate_broker_connected", "1: subscribed", int(self._service.is_connected))
        yield CounterMetricFamily("wattgate_broker_connections", "connections made", flow.connections)
        yield GaugeMetricFamily("wattgate_queue_messages", "waiting for a transaction", self._service.queued)
        yield CounterMetricFamily("wattgate_dropped_messages", "no room in the queue", flow.dropped)
        yield _commits(flow.commits, flow.commits_within, flow.commit_seconds)
        if counters is None:
            return
        pending = counters.pop("commands_pending")
        yield GaugeMetricFamily("wattgate_commands_pending", "commands without a result", pending)
        yield CounterMetricFamily("wattgate_messages", "messages taken", counters.pop("messages", 0))
        yield CounterMetricFamily("wattgate_quarantined", "messages set aside", counters.pop("quarantined", 0))
        verdicts = CounterMetricFamily("wattgate_batches", "batches of records by verdict", labels=("verdict",))
        for verdict, count in sorted(counters.items()):
            verdicts.add_metric((verdict,), count)
        yield verdicts

    def _counters(self) -> dict[str, int] | None:
        asked = asyncio.run_coroutine_threadsafe(self._service.call(Backend.metrics), self._loop)
        try:
            return asked.result(ANSWER_SECONDS_MAX)
        except failures(TimeoutError, CancelledError, RuntimeError, OSError, ValueError):
            asked.cancel()
            return None  # a database that fails, is slow or has ended; which of them, the service's own end tells


def _commits(count: int, within: list[int], seconds: float) -> HistogramMetricFamily:
    buckets, total = [], 0
    for bound, found in zip(COMMIT_SECONDS, within, strict=True):
        total += found
        buckets.append((str(bound), float(total)))
    buckets.append(("+Inf", float(count)))
    family = HistogramMetricFamily("wattgate_commit_seconds", "transactions of ingest, with their commits")
    family.add_metric((), buckets, seconds)
    return family


def _failing(why: str) -> tuple[int, str, bytes]:
    return 503, _TEXT, why.encode() + b"\n"


def _handler_of(watch: Watch) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = ANSWER_SECONDS_MAX

        def do_GET(self) -> None:
            status, media_type, body = watch.page(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """A scrape every few seconds is no news."""

    return Handler

"""The official SDK with its official OTLP exporters, every batch sent twice: to the gateway and, as the control copy,
to the backend directly. Both copies come from the same SDK objects, so ids and times are equal."""

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

BATCH = 64


@dataclass(frozen=True)
class Endpoint:
    """Ports on 127.0.0.1. With `by_default` the exporters are told nothing and must find the endpoint by themselves.

    `terminate` sends SIGTERM to the gateway behind the ports. `tls` is empty, `server` or `mutual`, with the
    certificates of `certificates.py`. With `unix`, gRPC goes to that socket.
    """

    grpc_port: int
    http_port: int
    by_default: bool = False
    terminate: Callable[[], None] | None = None
    tls: str = ""
    unix: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def grpc_target(self) -> dict:
        """What a gRPC exporter is told."""
        if self.unix:
            return {"endpoint": f"unix://{self.unix}", "insecure": True}
        told = {"endpoint": f"{self.scheme}://127.0.0.1:{self.grpc_port}"}
        return told | ({"credentials": self._grpc_credentials()} if self.tls else {})

    def http_target(self, signal: str) -> dict:
        """What an HTTP exporter is told."""
        told = {"endpoint": f"{self.scheme}://127.0.0.1:{self.http_port}/v1/{signal}"}
        if self.tls:
            from certificates import certificates

            made = certificates()
            told["certificate_file"] = str(made.ca)
            if self.tls == "mutual":
                told["client_certificate_file"] = str(made.client.certificate)
                told["client_key_file"] = str(made.client.key)
        return told

    def _grpc_credentials(self):
        from certificates import certificates
        from grpc import ssl_channel_credentials

        made = certificates()
        own = made.client if self.tls == "mutual" else None
        shown = (own.key.read_bytes(), own.certificate.read_bytes()) if own else ()
        return ssl_channel_credentials(made.ca.read_bytes(), *shown)


@dataclass(frozen=True)
class Exporters:
    spans: SpanExporter
    logs: LogRecordExporter
    metrics: MetricExporter


def exporters(transport: str, compression: str, endpoint: Endpoint, timeout: float = 10) -> Exporters:
    """`transport` is grpc, http/protobuf or http/json as in OTEL_EXPORTER_OTLP_PROTOCOL; `compression` none, gzip or
    deflate; `timeout` in seconds, retries included."""
    if transport == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        kinds = {"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}
        common = {"compression": kinds[compression], "timeout": timeout}
        if not endpoint.by_default:
            common |= endpoint.grpc_target
        return Exporters(OTLPSpanExporter(**common), OTLPLogExporter(**common), OTLPMetricExporter(**common))
    if transport == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        kinds = {"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}
        packing = kinds[compression]
    else:
        from opentelemetry.exporter.otlp.common.http import Compression
        from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.json.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter

        packing = Compression.from_str(compression)

    common = {"compression": packing, "timeout": timeout}

    def target(signal):
        if endpoint.by_default:
            return common
        return common | endpoint.http_target(signal)

    return Exporters(
        OTLPSpanExporter(**target("traces")),
        OTLPLogExporter(**target("logs")),
        OTLPMetricExporter(**target("metrics")),
    )


class Tally:
    """What was handed to the exporters and acknowledged, per signal, and what went wrong."""

    def __init__(self):
        self.sent = {"traces": 0, "logs": 0, "metrics": 0}
        self.faults: list[str] = []

    def record(self, signal: str, count: int, results: list[bool]):
        self.sent[signal] += count
        for name, success in zip(("control copy", "gateway"), results):
            if not success:
                self.faults.append(f"{signal}: export of {count} to the {name} was not acknowledged")


class _SpanTee(SpanExporter):
    def __init__(self, targets, tally):
        self._targets, self._tally = targets, tally

    def export(self, spans):
        results = [target.export(spans) == SpanExportResult.SUCCESS for target in self._targets]
        self._tally.record("traces", len(spans), results)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        for target in self._targets:
            target.shutdown()


class _LogTee(LogRecordExporter):
    def __init__(self, targets, tally):
        self._targets, self._tally = targets, tally

    def export(self, batch):
        results = [target.export(batch) == LogRecordExportResult.SUCCESS for target in self._targets]
        self._tally.record("logs", len(batch), results)
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        for target in self._targets:
            target.shutdown()

    def force_flush(self, timeout_millis=10_000):
        return True


class _MetricTee(MetricExporter):
    def __init__(self, targets, tally):
        super().__init__()
        self._targets, self._tally = targets, tally

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        results = [target.export(metrics_data) == MetricExportResult.SUCCESS for target in self._targets]
        points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        self._tally.record("metrics", points, results)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        for target in self._targets:
            target.shutdown()


class Sender:
    """Providers for the three signals. After `finish()` everything was exported; `tally` says how that went."""

    def __init__(self, transport: str, compression: str, control: Endpoint, gateway: Endpoint, resource, views=()):
        targets = [exporters(transport, compression, each) for each in (control, gateway)]
        self.tally = Tally()
        self.traces = TracerProvider(resource=resource)
        spans = _SpanTee([each.spans for each in targets], self.tally)
        self.traces.add_span_processor(BatchSpanProcessor(spans, max_export_batch_size=BATCH))
        self.logs = LoggerProvider(resource=resource)
        logs = _LogTee([each.logs for each in targets], self.tally)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(logs, max_export_batch_size=BATCH))
        metrics = _MetricTee([each.metrics for each in targets], self.tally)
        # Collects on flush only: a second collection would send the cumulative points again.
        reader = PeriodicExportingMetricReader(metrics, export_interval_millis=math.inf)
        self.metrics = MeterProvider([reader], resource=resource, views=views)
        self._log = _CaptureLog()

    def finish(self):
        self.traces.shutdown()
        self.logs.shutdown()
        self.metrics.force_flush()
        self.metrics.shutdown()
        self.tally.faults += self._log.close()


class _CaptureLog(logging.Handler):
    """What the SDK and its exporters log is a fault: they log only what went wrong."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self._lines = []
        logging.getLogger("opentelemetry").addHandler(self)

    def emit(self, record):
        # Delays differ from retry to retry; the line is wanted once.
        message = re.sub(r"retrying in [0-9.]+s", "retrying", record.getMessage())
        line = f"SDK log: {record.name}: {message}"[:300]
        if line not in self._lines:
            self._lines.append(line)

    def close(self):
        logging.getLogger("opentelemetry").removeHandler(self)
        return self._lines

"""The official OpenTelemetry Python SDK against the gateway: every transport in, every exporter out."""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import listen
from case import Case, Said, otlp_grpc, otlp_http, together
from content import FORGED, VIEWS, Bulk, Logs, Metrics, Traces, resource
from plant import Planter
from sender import Sender, exporters

TRANSPORTS = ("grpc", "http/protobuf", "http/json")
BULK_SPANS, BULK_RECORDS = 1500, 500
CLIENTS, STOP_AFTER_BATCHES, MOST_BATCHES = 4, 10, 200


def say_everything(transport, compression, control, gateway, planter) -> Said:
    sender = Sender(transport, compression, control, gateway, resource(planter), VIEWS)
    traces, logs = Traces(sender.traces, planter), Logs(sender.logs, planter)
    # Measured inside a span of this tracer, points get exemplars; the span itself counts too.
    metrics = Metrics(sender.metrics, sender.traces.get_tracer("exemplar.scope"), planter)
    traces.emit()
    logs.emit()
    metrics.emit()
    sender.finish()
    created = {"traces": traces.created + 1, "logs": logs.created, "metrics": metrics.created}
    return Said(created, sender.tally.sent, sender.tally.faults)


def say_with_certificate(transport, compression, control, gateway, planter) -> Said:
    """As `say_everything`; and a client without a certificate gets nothing through."""
    said = say_everything(transport, compression, control, gateway, planter)
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with provider.get_tracer("stranger").start_as_current_span("without a certificate"):
        pass
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    try:
        stranger = exporters(transport, compression, replace(gateway, tls="server"), timeout=2).spans
        if stranger.export(spans.get_finished_spans()) == SpanExportResult.SUCCESS:
            said.faults.append("a client without a certificate was served")
        stranger.shutdown()
    finally:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.NOTSET)
    return said


def say_bulk(_transport, compression, control, gateway, planter) -> Said:
    """Three clients at once, one on each transport."""

    def client(index: int):
        own = Planter(f"{planter.seed}.{index}")
        service = Resource.create({"service.name": f"bulk-{index}"})
        sender = Sender(TRANSPORTS[index], compression, control, gateway, service)
        Bulk(sender.traces, sender.logs, own, index * 1_000_000).emit(BULK_SPANS, BULK_RECORDS)
        sender.finish()
        return own.planted, sender.tally

    with ThreadPoolExecutor(len(TRANSPORTS)) as pool:
        results = list(pool.map(client, range(len(TRANSPORTS))))
    planter.planted += [each for planted, _ in results for each in planted]
    sent = {signal: sum(tally.sent[signal] for _, tally in results) for signal in ("traces", "logs", "metrics")}
    created = {"traces": BULK_SPANS * len(TRANSPORTS), "logs": BULK_RECORDS * len(TRANSPORTS), "metrics": 0}
    return Said(created, sent, [fault for _, tally in results for fault in tally.faults])


def say_until_stopped(transport, compression, control, gateway, planter) -> Said:
    """Several clients send without a pause; one stops the gateway in the middle, and all go on until refused.

    Every span that was acknowledged, and no other, goes to the control copy.
    """
    secrets = [each.text for each in planter.every_kind()]
    sent, faults = Counter(), []

    def client(index: int):
        spans, provider = InMemorySpanExporter(), TracerProvider(resource=Resource.create(FORGED))
        provider.add_span_processor(SimpleSpanProcessor(spans))
        direct = exporters(transport, compression, control).spans
        through = exporters(transport, compression, gateway, timeout=2).spans
        for batch in range(MOST_BATCHES):
            for secret in secrets:
                with provider.get_tracer("interrupted").start_as_current_span(f"client {index}") as span:
                    span.set_attribute("gen_ai.prompt", f"{secret} once more")
            finished = spans.get_finished_spans()
            if through.export(finished) != SpanExportResult.SUCCESS:
                break
            direct.export(finished)
            sent[index] += len(finished)
            spans.clear()
            if index == 0 and batch == STOP_AFTER_BATCHES and gateway.terminate:
                gateway.terminate()
        else:
            faults.append("harness: the gateway took everything after SIGTERM")
        direct.shutdown()
        through.shutdown()

    # That exports fail in the end is what is wanted here.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
    finally:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.NOTSET)
    return Said(None, {"traces": sent.total(), "logs": 0, "metrics": 0}, faults)


def sdk(name, transport, **fields):
    return Case(name, transport, say_everything, **fields)


def debug(_sink):
    return {"debug": {"verbosity": "detailed"}}


def file(_sink):
    return {"file": {"path": "./exported.jsonl"}}


CASES = [
    sdk("sdk-grpc", "grpc"),
    sdk("sdk-grpc-gzip", "grpc", compression="gzip"),
    sdk("sdk-http", "http/protobuf"),
    sdk("sdk-http-gzip", "http/protobuf", compression="gzip"),
    sdk("sdk-json", "http/json"),
    sdk("sdk-json-gzip", "http/json", compression="gzip"),
    sdk("sdk-grpc-deflate", "grpc", compression="deflate"),
    sdk("sdk-http-deflate", "http/protobuf", compression="deflate"),
    sdk("sdk-json-deflate", "http/json", compression="deflate"),
    sdk("tls-grpc", "grpc", listen=listen.tls),
    sdk("tls-http", "http/protobuf", listen=listen.tls, compression="gzip"),
    sdk("tls-json", "http/json", listen=listen.tls),
    Case("mtls-grpc", "grpc", say_with_certificate, listen=listen.mutual_tls, compression="gzip"),
    Case("mtls-http", "http/protobuf", say_with_certificate, listen=listen.mutual_tls),
    sdk("unix-grpc", "grpc", listen=listen.unix_socket),
    sdk("out-tls-grpc", "http/protobuf", exporter=otlp_grpc("gzip", tls=True), sink={"tls": True}),
    sdk(
        "out-tls-http",
        "grpc",
        exporter=otlp_http(tls=True),
        sink={"tls": True},
        arrives_as=("http/protobuf",),
    ),
    sdk("out-grpc-gzip", "grpc", exporter=otlp_grpc("gzip")),
    sdk("out-http", "grpc", exporter=otlp_http(), arrives_as=("http/protobuf",)),
    sdk("out-http-gzip", "http/json", exporter=otlp_http("gzip"), arrives_as=("http/protobuf",), arrives_packed="gzip"),
    sdk("out-json", "http/protobuf", exporter=otlp_http(encoding="json"), arrives_as=("http/json",)),
    sdk("fan-out", "grpc", exporter=together(otlp_grpc(), otlp_http()), arrives_as=("grpc", "http/protobuf")),
    # What is printed and written is masked as well, and it is printed and written.
    sdk(
        "debug-and-file",
        "http/protobuf",
        exporter=together(otlp_grpc(), debug, file),
        printed_masked=("stdout.log", "stderr.log"),
        file_copy="exported.jsonl",
    ),
    # A pipeline that names no processor is masked all the same.
    sdk("no-processors", "grpc", processors={}),
    # SIGTERM comes while a slow backend still has to take some of what was acknowledged.
    sdk("drain", "grpc", sink={"delay": 1.0}, pending=True),
    # SIGTERM comes while clients are sending.
    Case("interrupted", "grpc", say_until_stopped, sink={"delay": 0.05}, interrupts=True),
    Case("interrupted-http", "http/protobuf", say_until_stopped, sink={"delay": 0.05}, interrupts=True),
    sdk("retry", "http/protobuf", sink={"refuse_first": 4}),
    Case("bulk", "all", say_bulk),
    # Neither side is told anything but where the backend is.
    sdk("no-config", "grpc", configured=False),
    sdk("no-config-http", "http/protobuf", configured=False),
    sdk("no-config-json", "http/json", configured=False),
]

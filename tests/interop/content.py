"""What the official SDK is made to say: all three signals, with a planted value in every place that can hold text."""

import json
import time

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from compare import SEQUENCE
from plant import Planter

# Text that looks like a secret to a careless scanner and must pass unchanged.
HARMLESS = {
    "gen_ai.request.model": "gpt-5-mini-2025-08-07",
    "gen_ai.request.max_tokens": 4096,
    "gen_ai.usage.input_tokens": 1234,
    "app.note": "Total tokens: 5120. The password policy asks for twelve characters; see the token budget page.",
    "app.uuid": "0b9a8f0e-5b1f-4f5e-9d53-6f1f6c9e2a77",
    "vcs.ref.head.revision": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "app.when": "2026-03-01T12:34:56.789012Z",
    "url.full": "https://docs.example.org/guides/tokens?page=2&sort=asc#api-keys",
    "app.path": "/srv/agents/refunds/v2.7.1/prompts/system.md",
    "app.json": '{"order": "NF-2026-00017", "items": [{"sku": "A-100", "qty": 2}], "paid": true, "note": null}',
    "app.escaped": "line one\nline two\t\"quoted\" back\\slash",
    "app.unicode": "Grüße, 你好, שלום, 🚚📦 — naïve café",
    "app.empty": "",
    "gen_ai.tool.call.id": "call_Zk3pW8sQv1Lr5TnX",
    "app.ratio": 0.125,
    "app.flag": True,
    "app.negative": -(2**62),
}
# What a client sets under the gateway's own name must not pass; inside a value it is the client's data and stays.
FORGED = {"tracegate.tenant": "forged-tenant"}
FILLER = "The customer asks where parcel NF-2026-00017 is and whether the invoice can be sent again. "


def resource(planter: Planter) -> Resource:
    return Resource.create(
        {
            "service.name": "refund-agent",
            "service.version": "2.7.1",
            "process.command_args": ["python", "agent.py", f"--api-key={planter.token().text}"],
            "app.deploy.note": f"rotated on Monday, was {planter.any().text} before",
            **FORGED,
        }
    )


def long_text(planter: Planter, size: int) -> str:
    """Prose of about `size` characters with a planted value at the start, in the middle and at the end."""
    half = FILLER * (size // len(FILLER) // 2)
    first, middle, last = planter.kind("github-pat"), planter.kind("pem"), planter.kind("anthropic")
    return f"{first.text} {half}\n{middle.text}\n{half}{last.text}"


class Traces:
    """Spans of one agent run. `created` counts them."""

    def __init__(self, provider: TracerProvider, planter: Planter):
        self._provider = provider
        self._planter = planter
        self.created = 0

    def emit(self):
        plant = self._planter
        scope = f"refund.agent {plant.token().text}"
        schema, notes = "https://opentelemetry.io/schemas/1.36.0", {"scope.note": plant.any().text}
        tracer = self._provider.get_tracer(scope, f"1.0+{plant.token().text}", schema, notes)
        plain = self._provider.get_tracer("plain.scope", "2.0")
        remote = self._remote_parent()
        with self._span(tracer, f"invoke_agent {plant.any().text}", context=remote, kind=SpanKind.SERVER) as root:
            root.set_attributes(HARMLESS)
            self._every_kind_in_a_span(tracer)
            self._attribute_types(tracer)
            self._keys(tracer)
            self._events_and_exceptions(tracer)
            self._links(tracer, root.get_span_context())
            self._key_context(tracer)
            self._status(tracer)
            with self._span(plain, "large prompt") as span:
                span.set_attribute("gen_ai.input.messages", long_text(plant, 300_000))
            for number in range(40):
                with self._span(plain, f"step {number}", kind=SpanKind.CLIENT) as span:
                    span.set_attributes({**HARMLESS, "app.step": number})

    def _span(self, tracer, name, **arguments):
        self.created += 1
        return tracer.start_as_current_span(name, **arguments)

    def _remote_parent(self):
        state = TraceState([("vendor", self._planter.kind("gitlab-pat").text), ("congo", "t61rcWkgMzE")])
        parent = SpanContext(0x5B8AA5A2D2C872E8321CF37308D69DF2, 0x5FB397BE34D26B51, True, TraceFlags(1), state)
        return trace.set_span_in_context(NonRecordingSpan(parent))

    def _every_kind_in_a_span(self, tracer):
        for planted in self._planter.every_kind():
            with self._span(tracer, f"execute_tool {planted.kind}") as span:
                span.set_attribute("gen_ai.tool.call.result", f"{FILLER}\n{planted.text}\n{FILLER}")
                span.set_attribute("gen_ai.tool.name", "lookup")
                once = json.dumps({"tool": "lookup", "note": planted.text, "turn": 3})
                span.set_attribute("gen_ai.tool.call.arguments", once)
                span.set_attribute("gen_ai.output.messages", json.dumps([{"parts": [{"arguments": once}], "n": 1}]))

    def _attribute_types(self, tracer):
        plant = self._planter
        with self._span(tracer, "attribute types") as span:
            span.set_attribute("t.string", f"before {plant.any().text} after")
            span.set_attribute("t.whole", plant.token().text)
            span.set_attribute("t.strings", ["clean", f"x {plant.any().text} y", "", plant.token().text, "clean"])
            span.set_attribute("t.map", {"role": "user", "parts": [{"type": "text", "content": plant.any().text}]})
            span.set_attribute("t.map.deep", {"a": {"b": [{"c": [1, True, None, 2.5, f"deep {plant.any().text}"]}]}})
            span.set_attribute("t.map.key", {plant.token().text: "value", "clean": "value"})
            span.set_attribute("t.bytes", f"bytes {plant.token().text} bytes".encode())
            span.set_attribute("t.bytes.clean", bytes(range(256)))
            span.set_attribute("t.json", f'{{"arguments": "{{\\"note\\": \\"{plant.token().text}\\"}}"}}')
            span.set_attribute("t.map.own", {"tracegate.tenant": "data of the client"})
            span.set_attributes(FORGED)
            span.set_attribute("t.ints", [1, 2, 3])
            span.set_attribute("t.floats", [0.5, float("inf"), float("nan")])
            span.set_attribute("t.two", f"{plant.any().text} and {plant.any().text}")

    def _keys(self, tracer):
        with self._span(tracer, "attribute keys") as span:
            span.set_attribute(f"http.request.header.{self._planter.token().text}", "value of a strange header")
            span.add_event("keys", {f"k.{self._planter.token().text}": 7})

    def _events_and_exceptions(self, tracer):
        plant = self._planter
        with self._span(tracer, "events") as span:
            span.add_event(f"gen_ai.choice {plant.any().text}", {"content": plant.any().text, **FORGED, **HARMLESS})
            try:
                raise PermissionError(f"401 for {plant.any().text}")
            except PermissionError as error:
                span.record_exception(error, {"app.extra": plant.any().text})
        try:
            with self._span(tracer, "failing tool"):
                raise RuntimeError(f"cannot connect to {plant.kind('postgres-url').text}")
        except RuntimeError:
            pass

    def _links(self, tracer, context):
        links = [Link(context, {"link.note": self._planter.any().text, "link.n": 1, **FORGED}), Link(context)]
        with self._span(tracer, "links", links=links) as span:
            span.set_attribute("app.flag", False)

    def _key_context(self, tracer):
        """Values that nothing but their key gives away."""
        plant = self._planter
        with self._span(tracer, "key context") as span:
            span.set_attribute("db.password", plant.bare("key:password").text)
            authorization = plant.bare("key:authorization", 32, "Bearer ").text
            span.set_attribute("http.request.header.authorization", [authorization])
            span.set_attribute("http.request.header.x-api-key", [plant.bare("key:x-api-key", 32).text])
            span.set_attribute("tool.arguments", {"user": "svc", "password": plant.bare("key:nested-password").text})

    def _status(self, tracer):
        with self._span(tracer, "status") as span:
            span.set_status(Status(StatusCode.ERROR, f"refused: {self._planter.any().text} (code 7)"))


class Logs:
    """Log records of the same run: bodies of every type, attributes, event names, an exception."""

    def __init__(self, provider: LoggerProvider, planter: Planter):
        self._provider = provider
        self._planter = planter
        self.created = 0

    def emit(self):
        plant = self._planter
        logger = self._provider.get_logger(f"agent.log {plant.token().text}", "1.0")
        for planted in plant.every_kind():
            self._log(logger, f"tool said: {planted.text} and then stopped")
        self._log(logger, {"role": "tool", "content": [{"text": plant.any().text}, 7, None], "k": plant.any().text})
        self._log(logger, ["clean", f"in a list {plant.any().text}"])
        self._log(logger, f"bytes {plant.token().text}".encode())
        self._log(logger, None, {"only": f"attribute {plant.any().text}"})
        self._log(logger, 42, FORGED)
        self._log(logger, "an event", event_name=f"gen_ai.event.{plant.token().text}")
        self._log(logger, "severity text", severity_text=f"WARN {plant.token().text}")
        self._log(logger, {"password": plant.bare("key:body-password").text, "user": "svc"})
        self._log(logger, long_text(plant, 100_000))
        try:
            raise ValueError(f"bad input {plant.any().text}")
        except ValueError as error:
            self._log(logger, "it failed", exception=error)
        for number in range(20):
            self._log(logger, f"step {number} done", HARMLESS)

    def _log(self, logger, body, attributes=None, **fields):
        self.created += 1
        now = time.time_ns()
        fields.setdefault("severity_text", "INFO")
        logger.emit(
            LogRecord(
                timestamp=now,
                observed_timestamp=now + 1,
                severity_number=SeverityNumber.INFO,
                body=body,
                attributes={SEQUENCE: self.created, **(attributes or {})},
                **fields,
            )
        )


# `api.key` is dropped from these points and so goes into their exemplars.
VIEWS = [
    View(instrument_name="interop.exemplars", attribute_keys={SEQUENCE}),
    View(instrument_name="interop.exponential", aggregation=ExponentialBucketHistogramAggregation()),
]


class Metrics:
    """Points of every instrument the SDK has; attributes, descriptions, names and exemplars carry planted values."""

    def __init__(self, provider: MeterProvider, tracer, planter: Planter):
        self._provider = provider
        self._tracer = tracer
        self._planter = planter
        self.created = 0

    def emit(self):
        plant = self._planter
        meter = self._provider.get_meter(f"agent.meter {plant.token().text}", "1.0")
        counter = meter.create_counter("agent.calls", "{call}", f"calls made with {plant.any().text}")
        for planted in plant.every_kind():
            counter.add(1, self._series(**{"tool.argument": planted.text, **HARMLESS}))
        # The SDK writes instrument names in lower case, so the value must be.
        meter.create_counter(f"calls.{plant.kind('databricks').text}").add(2.5, self._series())
        meter.create_up_down_counter("agent.open").add(-3, self._series(note=plant.any().text, **FORGED))
        meter.create_gauge("agent.level").set(0.5, self._series(notes=["clean", plant.token().text]))
        meter.create_histogram("agent.latency", "s").record(0.25, self._series(user=plant.kind("email").text))
        meter.create_histogram("interop.exponential").record(12.0, self._series(key=plant.token().text))
        with self._tracer.start_as_current_span("exemplar"):
            measured = self._series(**{"api.key": plant.any().text, "api.name": "lookup"})
            meter.create_histogram("interop.exemplars").record(3.0, measured)
        meter.create_observable_gauge("agent.observed", [self._observe])
        self._observed = self._series(note=plant.any().text)

    def _observe(self, _options):
        return [Observation(7, self._observed)]

    def _series(self, **attributes):
        self.created += 1
        return {SEQUENCE: self.created, **attributes}


class Bulk:
    """Many small spans and log records of one client among several; `first` keeps its log numbers apart."""

    def __init__(self, traces: TracerProvider, logs: LoggerProvider, planter: Planter, first: int):
        self._tracer, self._logger = traces.get_tracer("bulk"), logs.get_logger("bulk")
        self._planter = planter
        self._first = first

    def emit(self, spans: int, records: int):
        secrets = [each.text for each in self._planter.every_kind()]
        for number in range(spans):
            with self._tracer.start_as_current_span(f"step {number}") as span:
                span.set_attributes({**HARMLESS, "app.step": number, "app.note": secrets[number % len(secrets)]})
        for number in range(records):
            attributes = {SEQUENCE: self._first + number, **HARMLESS}
            body = secrets[number % len(secrets)]
            self._logger.emit(LogRecord(timestamp=time.time_ns(), body=body, attributes=attributes))

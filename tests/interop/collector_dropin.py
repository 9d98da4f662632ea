"""One configuration file of a Collector, started once with the Collector and once with tracegate.

Both must take the file as it is, listen on the same ports, answer health and metrics alike, send the same data over
the same transports, and leave on SIGTERM with 0. What arrives behind the Collector must equal the control copy as it
is; what arrives behind tracegate must equal it but for what was planted.
"""

import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from case import ITEM_NAMES, Row
from case import judge as judge_copy
from collector import COLLECTOR, DATA
from compare import Judge, items
from gateway import Gateway, free_ports
from plant import Planter
from sdk_cases import say_everything
from sender import Endpoint
from sink import Received, Sink

CONFIGURATION = DATA / "drop-in.yaml"
SECOND_PATH = "/api/public/otel/v1/traces"
SECOND_SPANS = 120
# How the configuration wants each signal to arrive; the second trace pipeline uses HTTP.
WANTED = {
    ("traces", "grpc", ""),
    ("traces", "http/protobuf", "gzip"),
    ("metrics", "grpc", ""),
    ("logs", "http/json", ""),
}


@dataclass
class Ports:
    """The ports the configuration reads from its environment."""

    grpc: int
    http: int
    second: int
    health: int
    metrics: int

    def environment(self, sink: Sink) -> dict[str, str]:
        ours = {f"{name.upper()}_PORT": str(port) for name, port in vars(self).items()}
        return ours | {"SINK_GRPC_PORT": str(sink.grpc_port), "SINK_HTTP_PORT": str(sink.http_port)}


@dataclass
class Observed:
    """What one program did with the file."""

    sent: list[Received]
    arrived: list[Received]
    said: object
    planter: Planter
    health: tuple
    metrics: str
    written: dict[str, bytes]

    def ways(self) -> set:
        return {(each.signal, each.transport, each.encoding) for each in self.arrived}


def judge(binary: Path, seed: int, row: Row):
    ports = Ports(*free_ports(5))
    collector = observe(COLLECTOR, ports, seed)
    tracegate = observe(binary, ports, seed)

    unchanged = Judge([]).differences(items(collector.sent), items(collector.arrived))
    row.faults += [f"harness: Collector: {each}" for each in unchanged]
    judge_copy(row, tracegate.planter, tracegate.said, tracegate.sent, tracegate.arrived, tracegate.written)
    for name, observed in (("Collector", collector), ("tracegate", tracegate)):
        row.faults += [f"{name}: {each}" for each in _own_faults(observed)]
    for what in ("health", "ways"):
        left, right = (getattr(each, what) for each in (collector, tracegate))
        left, right = (left(), right()) if callable(left) else (left, right)
        if left != right:
            row.faults.append(f"{what}: {left} of the Collector, {right} of tracegate")


def _own_faults(observed: Observed) -> list[str]:
    found = [] if observed.ways() == WANTED else [f"data arrived as {sorted(observed.ways())}"]
    tenants = {each.headers.get("x-tenant") for each in observed.arrived if each.encoding == "gzip"}
    if tenants != {"interop"}:
        found.append(f"the configured header arrived as {tenants}")
    printed = b"".join(observed.written.values()).decode(errors="replace")
    for word in ("spans", "log records"):
        if not re.search(rf'"?{word}"?[:=]\s*[1-9]', printed):
            found.append(f"the debug exporter printed no number of {word}")
    counted = Counter(item.signal for item in items(observed.sent))
    for signal, name in ITEM_NAMES.items():
        samples = re.findall(rf"^otelcol_receiver_accepted_{name}\{{.*\}} (\S+)$", observed.metrics, re.MULTILINE)
        if sum(map(float, samples)) != counted[signal]:
            found.append(f"otelcol_receiver_accepted_{name}: {samples}, {counted[signal]} sent")
    return found


def observe(binary: Path, ports: Ports, seed: int) -> Observed:
    with tempfile.TemporaryDirectory(prefix="interop-") as directory, Sink() as control, Sink() as sink:
        endpoint = Endpoint(ports.grpc, ports.http)
        arguments = ["--config", str(CONFIGURATION)]
        environment = {**os.environ, **ports.environment(sink)}
        run = Gateway(binary, Path(directory), endpoint, arguments, ports.metrics, environment)
        planter = Planter(seed)
        try:
            run.start()
            said = say_everything("grpc", "none", Endpoint(control.grpc_port, control.http_port), endpoint, planter)
            _send_second(ports.second, control, said)
            health, page = _health(ports.health), run.metrics_page().decode()
            run.stop()
        finally:
            run.kill()
        said.faults += run.defects() + control.errors + sink.errors
        return Observed(control.received, sink.received, said, planter, health, page, run.written())


def _send_second(port: int, control: Sink, said):
    """Spans for the second receiver, under its own path."""
    provider = TracerProvider(resource=Resource.create({"service.name": "second"}))
    for target in (f"http://127.0.0.1:{port}{SECOND_PATH}", f"http://127.0.0.1:{control.http_port}/v1/traces"):
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=target)))
    for number in range(SECOND_SPANS):
        with provider.get_tracer("second").start_as_current_span(f"second {number}"):
            pass
    provider.shutdown()
    said.created["traces"] += SECOND_SPANS
    said.sent["traces"] += SECOND_SPANS


def _health(port: int) -> tuple:
    """Status, content type and the keys of the answer; times differ."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            body = json.loads(answer.read())
            return answer.status, answer.headers.get("content-type"), sorted(body), body.get("status")
    except (urllib.error.URLError, ValueError) as error:
        return (type(error).__name__, str(error))

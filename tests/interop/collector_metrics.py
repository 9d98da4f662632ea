"""The metrics pages of a Collector and of tracegate after the same traffic under the same configuration.

Every `otelcol_*` sample of tracegate must stand on the Collector's page with the same labels and type, those that
count items with the same value. What is different on purpose is an exception in `collector/metrics.toml`.
"""

import os
import re
import tempfile
import time
import tomllib
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from case import Row
from collector import COLLECTOR, DATA
from compare import items
from gateway import Gateway, free_ports
from plant import Planter
from sdk_cases import say_everything
from sender import Endpoint
from sink import Sink

CONFIGURATION = DATA / "metrics.yaml"
SAMPLE = re.compile(r"^(otelcol_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
TYPE = re.compile(r"^# TYPE (otelcol_\w+) (\w+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
REFUSED_SPANS = 30
REFUSALS = 1000
SETTLE_SECONDS = 20


def judge(binary: Path, seed: int, row: Row):
    with open(DATA / "metrics.toml", "rb") as file:
        rules = tomllib.load(file)
    ports = dict(zip(("GRPC", "HTTP", "SECOND", "METRICS"), free_ports(4)))
    used, total, alike = set(), 0, 0
    for level in ("normal", "detailed"):
        pages = [_page(program, ports, level, seed) for program in (COLLECTOR, binary)]
        found, faults = compare(*pages, rules, used)
        row.faults += [f"{level}: {each}" for each in faults]
        total, alike = total + len(samples(pages[1])), alike + found
    excused = {each["name"]: each["reason"] for each in rules["exception"]}
    row.faults += [f"an exception that nothing needs: {name}" for name in excused if name not in used]
    for name in sorted(used):
        print(f"  excepted: {name}: {excused[name]}")
    row.sent, row.arrived = str(total), f"{alike} alike"


def compare(collector: str, tracegate: str, rules: dict, used: set) -> tuple[int, list[str]]:
    """The number of tracegate's samples that are as they must be, and what is wrong with the others."""
    theirs, ours = samples(collector), samples(tracegate)
    types = [dict(TYPE.findall(page)) for page in (collector, tracegate)]
    alike, faults = 0, {}
    for sample, value in ours.items():
        fault = _fault(sample, value, theirs, types, rules["items"])
        counts = re.fullmatch(rules["items"], _name(sample)) is not None
        by = [each["name"] for each in rules["exception"] if _excuses(each, sample, value, theirs, counts)]
        if fault is None:
            alike += 1
        elif by:
            used.update(by)
        else:
            # One line a name: its series all differ in the same way.
            faults.setdefault(_name(sample), fault)
    faults = list(faults.values())
    names = {_name(sample) for sample in ours}
    faults += [f"tracegate has no {name}" for name in rules["required"] if name not in names]
    print(f"  only the Collector has: {', '.join(sorted({_name(sample) for sample in theirs} - names))}")
    return alike, faults


def _excuses(exception: dict, sample: str, value: float, theirs: dict, counts_items: bool) -> bool:
    if not re.fullmatch(exception["name"], sample) or (exception.get("zero") and value != 0):
        return False
    if not exception.get("fewer_labels"):
        return True
    ours = set(LABEL.findall(sample))
    finer = [other for other in theirs if _name(other) == _name(sample) and ours <= set(LABEL.findall(other))]
    return bool(finer) and (not counts_items or sum(theirs[other] for other in finer) == value)


def _fault(sample: str, value: float, theirs: dict, types: list, items_pattern: str) -> str | None:
    name = _name(sample)
    if sample not in theirs:
        near = [other for other in theirs if _name(other) == name]
        return f"the Collector has no {sample}" + (f", but {' and '.join(near[:3])}" if near else "")
    kinds = [_type(name, each) for each in types]
    if kinds[0] != kinds[1]:
        return f"{name} is a {kinds[0]} of the Collector, a {kinds[1]} of tracegate"
    if re.fullmatch(items_pattern, name) and theirs[sample] != value:
        return f"{sample} is {theirs[sample]:g} of the Collector, {value:g} of tracegate"
    return None


def samples(page: str) -> dict[str, float]:
    """By `name{label="value",…}` with the labels in order; the buckets of a histogram are one: bounds may differ."""
    found = {}
    for name, labels, number in SAMPLE.findall(page):
        pairs = sorted(pair for pair in LABEL.findall(labels) if pair[0] != "le" or not name.endswith("_bucket"))
        found[name + "{" + ",".join(f'{key}="{value}"' for key, value in pairs) + "}"] = float(number)
    return found


def _name(sample: str) -> str:
    return sample.split("{", 1)[0]


def _type(name: str, types: dict) -> str:
    return types.get(name) or types.get(re.sub(r"_(bucket|sum|count)$", "", name), "untyped")


def _page(program: Path, ports: dict[str, int], level: str, seed: int) -> str:
    """What the program's page says when everything that it took was delivered or refused."""
    with tempfile.TemporaryDirectory(prefix="interop-") as directory, Sink() as control, Sink() as sink:
        with Sink(refuse_first=REFUSALS) as refusing:
            backends = {"SINK_GRPC": sink.grpc_port, "REFUSING": refusing.http_port}
            settings = {f"{name}_PORT": str(port) for name, port in (ports | backends).items()} | {"LEVEL": level}
            environment = {**os.environ, **settings}
            endpoint = Endpoint(ports["GRPC"], ports["HTTP"])
            arguments = ["--config", str(CONFIGURATION)]
            run = Gateway(program, Path(directory), endpoint, arguments, ports["METRICS"], environment)
            try:
                run.start()
                for transport in ("grpc", "http/protobuf"):
                    direct = Endpoint(control.grpc_port, control.http_port)
                    say_everything(transport, "none", direct, endpoint, Planter(seed))
                _send_refused(ports["SECOND"])
                page = _settled(run, control, sink, refusing)
                run.stop()
            finally:
                run.kill()
            # The ports of the backends differ from run to run.
            for name, port in backends.items():
                page = page.replace(f'server_port="{port}"', f'server_port="{name}"')
            return page


def _send_refused(port: int):
    """In one request, so that both count one failed batch."""
    memory, provider = InMemorySpanExporter(), TracerProvider(resource=Resource.create({"service.name": "refused"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for number in range(REFUSED_SPANS):
        with provider.get_tracer("refused").start_as_current_span(f"refused {number}"):
            pass
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    if exporter.export(memory.get_finished_spans()) != SpanExportResult.SUCCESS:
        raise AssertionError("the second receiver did not take its spans")
    exporter.shutdown()


def _settled(run: Gateway, control: Sink, sink: Sink, refusing: Sink) -> str:
    """The page once all has arrived, the refusal was seen, and two pages in a row count the same items."""
    last, end = None, time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        page = run.metrics_page().decode()
        done = len(items(sink.received)) == len(items(control.received)) and refusing.refused
        counted = {name: value for name, value in samples(page).items() if "_exporter_" in name or "_receiver_" in name}
        if done and counted == last:
            return page
        last = counted
        time.sleep(0.3)
    return run.metrics_page().decode()

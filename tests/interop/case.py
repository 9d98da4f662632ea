"""One case: telemetry goes through one run of the gateway into a sink, and is judged. Prints and keeps one row."""

import json
import os
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import gateway
from compare import MARKER, Judge, items
from content import FORGED
from plant import Planter
from sender import Endpoint
from sink import Received, Sink, received_from_lines

TENANT = "tracegate.tenant"
SHOWN_FAULTS = int(os.environ.get("INTEROP_FAULTS", "12"))
ITEM_NAMES = {"traces": "spans", "logs": "log_records", "metrics": "metric_points"}
MASKING = {
    "memory_limiter": {"check_interval": "1s", "limit_mib": 1024},
    "identity": {"attributes": {TENANT: "interop"}},
    "mask": {},
}
COLUMNS = ("case", "transport", "sent", "arrived", "planted", "survived", "markers", "seconds", "verdict")


def otlp_grpc(compression="none", tls=False):
    def exporter(sink: Sink):
        target = {"endpoint": f"127.0.0.1:{sink.grpc_port}", "tls": _client_tls(tls), "compression": compression}
        return {"otlp_grpc": target | RETRY}

    return exporter


def otlp_http(compression="none", encoding="proto", tls=False):
    def exporter(sink: Sink):
        endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{sink.http_port}"
        target = {"endpoint": endpoint, "compression": compression, "encoding": encoding}
        return {"otlp_http": target | ({"tls": _client_tls(tls)} if tls else {}) | RETRY}

    return exporter


def _client_tls(tls: bool) -> dict:
    """How an exporter reaches a sink with `tls`, which wants a certificate of its clients."""
    if not tls:
        return {"insecure": True}
    from certificates import certificates

    own = certificates().client
    return {"ca_file": str(certificates().ca), "cert_file": str(own.certificate), "key_file": str(own.key)}


RETRY = {"retry_on_failure": {"initial_interval": "100ms", "max_interval": "1s"}}


def together(*exporters):
    return lambda sink: {name: each for exporter in exporters for name, each in exporter(sink).items()}


@dataclass(frozen=True)
class Case:
    """`say(transport, compression, control, gateway, planter)` sends the telemetry and returns a `Said`.

    Each transport in `arrives_as` must bring one whole copy, and so must the file `file_copy` of OTLP/JSON lines. One
    of the files `printed_masked` must hold a marker. With `pending` the backend must not have had everything when
    SIGTERM came. `say` of a case that `interrupts` sends SIGTERM itself, and its control copy is what was acknowledged;
    what was not may arrive or not.
    """

    name: str
    transport: str
    say: object
    compression: str = "none"
    exporter: object = field(default_factory=otlp_grpc)
    processors: dict = field(default_factory=lambda: MASKING)
    arrives_as: tuple = ("grpc",)
    arrives_packed: str = ""
    sink: dict = field(default_factory=dict)
    configured: bool = True
    printed_masked: tuple = ()
    file_copy: str = ""
    pending: bool = False
    interrupts: bool = False
    listen: object = None
    chain: object = None


@dataclass
class Said:
    """What a driver says it created per signal (none: it cannot know), what was acknowledged, and its faults."""

    created: dict | None
    sent: dict
    faults: list[str]


@dataclass
class Row:
    case: str
    transport: str
    sent: str = "-"
    arrived: str = "-"
    planted: str = "-"
    survived: str = "-"
    markers: str = "-"
    seconds: str = "-"
    verdict: str = "FAILED"
    faults: list[str] = field(default_factory=list)

    def cells(self):
        return [str(getattr(self, name)) for name in COLUMNS]


def run_case(case: Case, binary: Path | None, seed: int) -> Row:
    """Runs one case; without a binary the telemetry goes to the sink unmasked, and the row must say FAILED."""
    row = Row(case.name, _route(case))
    if binary and not case.configured and (busy := gateway.busy_default_ports()):
        row.verdict = "NOT RUN"
        row.faults = [f"a default port is in use: {', '.join(busy)}"]
        return row
    started = time.monotonic()
    planter = Planter(seed)
    with tempfile.TemporaryDirectory(prefix="interop-") as directory, Sink() as control, Sink(**case.sink) as sink:
        direct, unmasked = Endpoint(control.grpc_port, control.http_port), Endpoint(sink.grpc_port, sink.http_port)
        if binary is None:
            said, written = case.say(case.transport, case.compression, direct, unmasked, planter), {}
        else:
            run = _gateway(case, binary, Path(directory), sink)
            said, written = _through(run, case, direct, planter, sink, row)
            row.faults += _transport_faults(case, sink)
        if said is not None:
            for arrived in _copies(case, control, sink, written) if binary else [sink.received]:
                judge(row, planter, said, control.received, arrived, written)
                row.faults += identity_faults(case, arrived) if binary else []
        row.faults += _metrics_faults(said, written) if binary and said is not None and not case.interrupts else []
        row.faults += [f"control: {each}" for each in control.errors] + [f"sink: {each}" for each in sink.errors]
    row.faults = list(dict.fromkeys(row.faults))
    row.seconds = f"{time.monotonic() - started:.1f}"
    row.verdict = "FAILED" if row.faults else "ok"
    return row


def _copies(case: Case, control: Sink, sink: Sink, written: dict) -> list[list[Received]]:
    copies = [[each for each in sink.received if each.transport == transport] for transport in case.arrives_as]
    if case.interrupts:
        acknowledged = {item.key for item in items(control.received)}
        copies = [[each for each in copy if {item.key for item in items([each])} & acknowledged] for copy in copies]
    if case.file_copy:
        copies.append(received_from_lines(written.get(case.file_copy, b"")))
    return copies


def _gateway(case: Case, binary: Path, directory: Path, sink: Sink) -> gateway.Gateway:
    if case.chain:
        return case.chain(case, binary, directory, sink)
    if case.configured:
        return gateway.configured(binary, directory, case.exporter(sink), case.processors, listen=case.listen)
    return gateway.unconfigured(binary, directory, sink.grpc_port)


def _through(run: gateway.Gateway, case: Case, direct: Endpoint, planter: Planter, sink: Sink, row: Row):
    """Sends everything, then stops the gateway at once: what it acknowledged must still be delivered."""
    said, page = None, b""
    try:
        run.start()
        said = case.say(case.transport, case.compression, direct, run.endpoint, planter)
        if case.interrupts != run.terminated:
            row.faults.append("harness: SIGTERM did not come in the middle")
        page = run.metrics_page() if not run.terminated else b""
        before = len(sink.received)
        run.stop()
        if case.pending and before == len(sink.received):
            row.faults.append("harness: nothing was left to deliver when SIGTERM came")
    except gateway.GatewayFault as fault:
        row.faults.append(str(fault))
    finally:
        run.kill()
    row.faults += run.defects()
    written = run.written()
    printed = [written.get(each, b"").decode(errors="replace") for each in case.printed_masked]
    if printed and not any(MARKER.search(each) for each in printed):
        row.faults.append(f"no masked value in {' or '.join(case.printed_masked)}")
    return said, {**written, "metrics page": page}


def _route(case: Case) -> str:
    packed = "" if case.compression == "none" else f" {case.compression}"
    over = f" {case.listen.__name__.replace('_', ' ')}" if case.listen else ""
    return f"{case.transport}{packed}{over} → {', '.join(case.arrives_as)}{' tls' if case.sink.get('tls') else ''}"


def judge(row: Row, planter: Planter, said: Said, control: list[Received], arrived: list[Received], written: dict):
    """Fills in the counts of `row` and its faults."""
    judge = Judge(planter.planted)
    sent_items, arrived_items = items(control), items(arrived)
    row.faults += said.faults
    row.sent, arrived_now = _counts(said.sent), _counts(Counter(item.signal for item in arrived_items))
    row.arrived = arrived_now if row.arrived in ("-", arrived_now) else f"{row.arrived} and {arrived_now}"
    counts = Counter(item.signal for item in sent_items)
    for signal in ("traces", "logs", "metrics"):
        if said.created is not None and said.created[signal] != said.sent[signal]:
            row.faults.append(f"harness: {said.created[signal]} {signal} created, {said.sent[signal]} exported")
        if counts[signal] != said.sent[signal]:
            row.faults.append(f"harness: {said.sent[signal]} {signal} exported, {counts[signal]} in the control copy")

    # The control copy proves that the search finds every planted value where nothing masks it.
    visible = judge.survivors(_readable(control))
    row.planted = str(len(planter.planted))
    unseen = [each.kind for each in planter.planted if each not in visible]
    if unseen:
        row.faults.append(f"harness: planted but not in the control copy: {', '.join(unseen)}")

    received = _readable(arrived)
    row.markers = str(sum(len(MARKER.findall(each.body.decode("utf-8", "replace"))) for each in arrived))
    survived = {each: ["sink"] for each in judge.survivors(received)}
    for place, data in written.items():
        for each in judge.survivors(data):
            survived.setdefault(each, []).append(place)
    row.survived = str(max(len(survived), int(row.survived.replace("-", "0"))))
    groups = Counter((each.kind, ", ".join(places)) for each, places in survived.items())
    for (kind, places), count in sorted(groups.items()):
        row.faults.append(f"survived: {kind} in {places}" + (f" ({count} values)" if count > 1 else ""))
    row.faults += judge.differences(sent_items, arrived_items)


def identity_faults(case: Case, arrived: list[Received]) -> list[str]:
    """With `identity` no attribute of the client's making stands under the gateway's name, and its own are there."""
    if case.configured and "identity" not in case.processors:
        return []
    found = []
    if FORGED[TENANT].encode() in _readable(arrived):
        found.append("an attribute under tracegate.* that the client set arrived")
    wanted = [case.processors["identity"]["attributes"][TENANT]] if case.configured else []
    for item in items(arrived):
        attributes = item.parts["resource"].attributes
        if [each.value.string_value for each in attributes if each.key == TENANT] != wanted:
            found.append(f"{item.signal}: a resource arrived without {TENANT} as configured")
    return found


def _readable(received: list[Received]) -> bytes:
    """All bodies as received and, for those in JSON, also as protobuf, where strings are not escaped."""
    bodies = [each.body for each in received]
    bodies += [each.message.SerializeToString() for each in received if each.transport == "http/json"]
    return b"\n".join(bodies)


def _metrics_faults(said: Said, written: dict) -> list[str]:
    """The gateway's own count of what it accepted, under the Collector's names, agrees with the client's."""
    found = []
    page = written["metrics page"].decode()
    for signal, name in ITEM_NAMES.items():
        metric = re.compile(rf"^otelcol_receiver_accepted_{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", re.MULTILINE)
        counted = sum(float(value) for value in metric.findall(page))
        if counted != said.sent[signal]:
            found.append(f"{said.sent[signal]} {name} acknowledged, otelcol_receiver_accepted_{name} is {counted:g}")
    return found


def _transport_faults(case: Case, sink: Sink) -> list[str]:
    found = []
    for missing in set(case.arrives_as) - {each.transport for each in sink.received}:
        found.append(f"nothing arrived over {missing}")
    for each in sink.received:
        packed = "" if each.encoding == "identity" else each.encoding
        # grpcio does not say how a message was compressed.
        if each.transport not in case.arrives_as or (each.transport != "grpc" and packed != case.arrives_packed):
            found.append(f"the gateway sent {each.transport} {packed or 'uncompressed'}")
    if sink.refused != case.sink.get("refuse_first", 0):
        found.append(f"the sink refused {sink.refused} requests, not {case.sink['refuse_first']}")
    return sorted(set(found))


def _counts(per_signal) -> str:
    return "/".join(str(per_signal[signal]) for signal in ("traces", "logs", "metrics"))


def report(row: Row, results: Path):
    """Shows a row as soon as it is there and keeps it for the table at the end."""
    print(f"{row.verdict:8} {row.case} ({row.transport}) {row.seconds} s", flush=True)
    for fault in row.faults[:SHOWN_FAULTS]:
        print("         - " + fault.replace("\n", "\n           "))
    if len(row.faults) > SHOWN_FAULTS:
        print(f"         … and {len(row.faults) - SHOWN_FAULTS} more")
    with open(results, "a") as out:
        out.write(json.dumps({"cells": row.cells(), "verdict": row.verdict}) + "\n")

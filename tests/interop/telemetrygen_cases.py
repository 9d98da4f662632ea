"""telemetrygen, the Collector project's own load generator, against tracegate: every count arrives exactly.

It makes its telemetry itself, so there is no control copy. Each signal over each transport, several workers at once.
One attribute of every item is a fake credential: none may arrive, and a marker must stand in its place on every item.
"""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import gateway
from case import ITEM_NAMES, MASKING, Row, otlp_grpc, otlp_http
from collector import TELEMETRYGEN, Check
from compare import MARKER, Judge, items
from plant import Planter
from sink import Sink

# Together less than telemetrygen's own queue holds: 2,048 spans. It drops silently what does not fit.
WORKERS, EACH = 3, 300
SECONDS = 60
# Items per thing that is asked for: a trace is a parent and its child.
ITEMS = {"traces": 2, "logs": 1, "metrics": 1}


def case(signal: str, over_http: bool, exporter, name: str) -> Check:
    def judge(binary: Path, seed: int, row: Row):
        _judge(signal, over_http, exporter, binary, seed, row)

    return Check(f"telemetrygen-{signal}-{name}", "http/protobuf" if over_http else "grpc", judge)


def _judge(signal: str, over_http: bool, exporter, binary: Path, seed: int, row: Row):
    planter = Planter(seed)
    secret = planter.kind("github-pat")
    with tempfile.TemporaryDirectory(prefix="interop-") as directory, Sink() as sink:
        run = gateway.configured(binary, Path(directory), exporter(sink), MASKING)
        try:
            run.start()
            port = run.endpoint.http_port if over_http else run.endpoint.grpc_port
            row.faults += _generate(signal, port, over_http, secret.text)
            page = run.metrics_page().decode()
            run.stop()
        finally:
            run.kill()
        row.faults += run.defects() + sink.errors
        bodies = b"\n".join(each.body for each in sink.received)
        survived = Judge(planter.planted).survivors(bodies + b"\n".join(run.written().values()))
    arrived = items(sink.received)
    wanted = WORKERS * EACH * ITEMS[signal]
    counts = Counter(item.signal for item in arrived)
    if counts != {signal: wanted}:
        row.faults.append(f"{wanted} {signal} asked for, {dict(counts)} arrived")
    if signal == "traces" and (same := len(arrived) - len({item.key for item in arrived})):
        row.faults.append(f"{same} spans arrived more than once")
    accepted = re.findall(rf"^otelcol_receiver_accepted_{ITEM_NAMES[signal]}\{{.*\}} (\S+)$", page, re.MULTILINE)
    if sum(map(float, accepted)) != wanted:
        row.faults.append(f"otelcol_receiver_accepted_{ITEM_NAMES[signal]} is {accepted}, {wanted} were sent")
    unmarked = sum(1 for item in arrived if not _marked(item))
    if unmarked:
        row.faults.append(f"{unmarked} {signal} arrived without a marker in app.key")
    if survived:
        row.faults.append("survived: " + ", ".join(each.kind for each in survived))
    row.sent, row.arrived = (f"{each} {ITEM_NAMES[signal]}" for each in (wanted, counts[signal]))
    row.planted, row.survived, row.markers = "1", str(len(survived)), str(len(arrived) - unmarked)


def _marked(item) -> bool:
    leaf = item.parts["span" if item.signal == "traces" else "log_record" if item.signal == "logs" else "point"]
    return any(each.key == "app.key" and MARKER.fullmatch(each.value.string_value) for each in leaf.attributes)


def _generate(signal: str, port: int, over_http: bool, secret: str) -> list[str]:
    command = [TELEMETRYGEN, signal, "--otlp-endpoint", f"127.0.0.1:{port}", "--otlp-insecure", "--rate", "0"]
    command += ["--workers", str(WORKERS), f"--{signal}", str(EACH), "--telemetry-attributes", f'app.key="{secret}"']
    command += ["--otlp-http"] if over_http else []
    ran = subprocess.run(command, capture_output=True, timeout=SECONDS)
    said = (ran.stdout + ran.stderr).decode(errors="replace")
    if ran.returncode != 0:
        return [f"telemetrygen exits with {ran.returncode}: {said[-500:]}"]
    return [f"telemetrygen: {line}"[:300] for line in said.splitlines() if "\tERROR\t" in line or "\tWARN\t" in line]


CASES = [
    case(signal, over_http, exporter, name)
    for name, over_http, exporter in (("grpc", False, otlp_grpc()), ("http", True, otlp_http("gzip")))
    for signal in ("traces", "logs", "metrics")
]

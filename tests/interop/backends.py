"""What a real backend stored of a run that came through tracegate, held against the same run sent to it directly.

The SDK's run goes through tracegate into the backend and, as the control copy, to a sink. The backend is read through
its API and its files are searched; then its traces are deleted, the control copy is sent as it is, and the backend is
read again. Both readings must show the same spans, equal but for what was planted.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from opentelemetry.sdk.resources import Resource

import gateway
from backends_content import AgentRun
from case import MASKING, Row
from compare import MARKER, Judge, items
from content import FORGED, Traces
from plant import Planter
from sender import Endpoint, Sender
from sink import GRPC_METHODS, Sink

START_SECONDS = 120
STORED_SECONDS = 60
STOP_SECONDS = 20


@dataclass
class Backend:
    """A server in a directory of its own; `answers` keeps every answer that was read from it."""

    name: str
    command: list[str]
    environment: dict[str, str]
    health: str
    directory: Path
    answers: list[bytes] = field(default_factory=list)

    def __enter__(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTEROP_")}
        with open(self.directory / "server.log", "wb") as log:
            # In a process group of its own, because a server may have workers.
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=kept | self.environment | {"HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise gateway.GatewayFault(f"{self.name} did not start\n{self._log()}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_):
        for each in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, each)
                self._process.wait(STOP_SECONDS)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")[-1500:]

    def ask(self, method: str, url: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except OSError as error:
            raise gateway.GatewayFault(f"{self.name}: {method} {url}: {error}\n{self._log()}") from None
        self.answers.append(text)
        return json.loads(text) if text else None

    def files(self) -> bytes:
        """Everything the server has written, database and log."""
        return b"\n".join(each.read_bytes() for each in self.directory.rglob("*") if each.is_file())


def judge(backend, way: str, binary: Path, seed: int, row: Row):
    """`backend` has `exporter(way)`, `send(way, body)`, `read()`, `delete()`, `stores(span)` and `differences(…)`."""
    planter = Planter(seed)
    with tempfile.TemporaryDirectory(prefix="interop-") as directory, Sink() as control:
        run = gateway.configured(binary, Path(directory), backend.exporter(way), MASKING)
        try:
            run.start()
            faults = _say(Endpoint(control.grpc_port, control.http_port), run.endpoint, planter)
            run.stop()
        finally:
            run.kill()
        row.faults += faults + run.defects() + control.errors
    sent = {item.key[1].hex(): item.parts["span"] for item in items(control.received)}
    expected = {key for key, span in sent.items() if backend.stores(span)}
    judged = Judge(planter.planted)

    through, written = _read(backend, expected), backend.server.files()
    readable = judged.survivors(b"\n".join(backend.server.answers) + written)
    backend.delete()
    backend.server.answers.clear()
    for each in control.received:
        backend.send(way, each.body)
    direct = _read(backend, expected)
    visible = judged.survivors(b"\n".join(backend.server.answers) + backend.server.files())
    backend.delete()
    backend.server.answers.clear()

    for name, stored in (("directly", direct), ("through tracegate", through)):
        if set(stored) != expected:
            lost, added = len(expected - set(stored)), len(set(stored) - expected)
            row.faults.append(f"{name}: {lost} spans that the backend should store are missing, {added} are added")
    both = set(direct) & set(through)
    row.faults += backend.differences(judged, {k: direct[k] for k in both}, {k: through[k] for k in both})
    # Not everything is stored: the trace state, scopes. But all kinds are planted in span attributes.
    kinds = {each.kind for each in planter.planted} - {each.kind for each in visible}
    if kinds:
        row.faults.append(f"harness: sent directly, these kinds cannot be read in the backend: {', '.join(kinds)}")
    groups = Counter(each.kind for each in readable)
    row.faults += [f"survived: {kind} ({count} values)" for kind, count in sorted(groups.items())]
    row.sent, row.arrived = f"{len(sent)} spans", f"{len(through)} spans, {len(direct)} directly"
    row.planted, row.survived = f"{len(planter.planted)}, {len(visible)} stored directly", str(len(readable))
    row.markers = str(len(MARKER.findall(written.decode(errors="replace"))))


def _read(backend, expected: set[str]) -> dict:
    """The spans the backend has, by span id, once all that it should store is there; it stores some time later."""
    end = time.monotonic() + STORED_SECONDS
    while True:
        backend.server.answers.clear()
        stored = backend.read()
        if expected <= set(stored) or time.monotonic() > end:
            return stored
        time.sleep(0.5)


def _say(control: Endpoint, tracegate: Endpoint, planter: Planter) -> list[str]:
    service = Resource.create({"service.name": "parcel-agent", "app.deploy.note": planter.any().text, **FORGED})
    sender = Sender("grpc", "none", control, tracegate, service)
    traces, agent = Traces(sender.traces, planter), AgentRun(sender.traces, planter)
    traces.emit()
    agent.emit()
    sender.finish()
    created, sent = traces.created + agent.created, sender.tally.sent["traces"]
    return sender.tally.faults + ([] if created == sent else [f"harness: {created} spans created, {sent} exported"])


def send_grpc(port: int, body: bytes):
    method = next(name for name, kind in GRPC_METHODS.items() if kind == "traces")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)(body, timeout=60)


def send_http(url: str, body: bytes, headers: dict):
    request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf", **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()

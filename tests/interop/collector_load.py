"""10,000 spans a second for 15 seconds through a Collector and through tracegate, one after the other.

Every span must arrive. CPU and memory are printed side by side and not judged: machines differ, and rows are to be
compared only with each other. The Collector batches, and then batches and redacts with a handful of patterns; tracegate
masks with its whole catalog.
"""

import os
import random
import tempfile
import time
from concurrent import futures
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import collector
import gateway
from case import MASKING, Row, otlp_grpc
from collector import Address
from sink import GRPC_METHODS, MAX_MESSAGE_BYTES

SPANS_PER_REQUEST, REQUESTS_PER_SECOND, SECONDS = 100, 100, 15
TRACE_METHOD = next(name for name, kind in GRPC_METHODS.items() if kind == "traces")
PROSE = "The customer asks where parcel NF-2026-00017 is and whether the invoice can be sent again. "
REDACTION = {
    "allow_all_keys": True,
    "blocked_values": [
        "api_key=[0-9a-f]{32}",
        "gh[a-z]_[A-Za-z0-9]{36}",
        "AKIA[A-Z2-7]{16}",
        "[0-9]{13,19}",
        "[a-z0-9._-]+@[a-z0-9-]+[.][a-z]+",
    ],
}


class _Counter(grpc.GenericRpcHandler):
    """Counts spans and keeps none."""

    spans = 0

    def service(self, details):
        def export(body, _context):
            request = ExportTraceServiceRequest.FromString(body)
            self.spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
            return b""

        return grpc.unary_unary_rpc_method_handler(export) if details.method == TRACE_METHOD else None


def judge(binary: Path, seed: int, row: Row):
    bodies = _bodies(seed)
    total = SPANS_PER_REQUEST * REQUESTS_PER_SECOND * SECONDS
    print(f"  {total // SECONDS} spans a second for {SECONDS} s, {len(bodies[0]) // SPANS_PER_REQUEST} bytes each")
    for name in ("Collector", "Collector, redaction", "tracegate"):
        counter = _Counter()
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
        server.add_generic_rpc_handlers((counter,))
        address = Address(server.add_insecure_port("127.0.0.1:0"), 0)
        server.start()
        with tempfile.TemporaryDirectory(prefix="interop-") as directory:
            run = _program(name, binary, Path(directory), otlp_grpc()(address))
            try:
                run.start()
                before = _cpu_seconds(run.pid)
                took = _send(run.endpoint.grpc_port, bodies)
                cpu, peak = _cpu_seconds(run.pid) - before, _peak_mib(run.pid)
                run.stop()
            finally:
                run.kill()
                server.stop(1).wait()
        print(f"  {name:20} {100 * cpu / took:5.1f} % of one core, {peak:4.0f} MiB at most, {took:.1f} s")
        if counter.spans != total:
            row.faults.append(f"{name}: {total} spans sent, {counter.spans} arrived")
    row.sent, row.arrived = f"{total} spans", f"{counter.spans} spans"


def _program(name: str, binary: Path, directory: Path, exporters: dict) -> gateway.Gateway:
    if name == "tracegate":
        return gateway.configured(binary, directory, exporters, MASKING)
    redaction = {"redaction": REDACTION} if name != "Collector" else {}
    return collector.configured(directory, exporters, {**collector.PROCESSORS, **redaction})


def _bodies(seed: int) -> list[bytes]:
    """A second's requests: spans of about 0.6 KB, as small agent steps are; one in a hundred holds a key."""
    rng, bodies = random.Random(seed), []
    for _ in range(REQUESTS_PER_SECOND):
        request = ExportTraceServiceRequest()
        enclosing = request.resource_spans.add()
        enclosing.resource.attributes.add(key="service.name").value.string_value = "load"
        spans = enclosing.scope_spans.add().spans
        for number in range(SPANS_PER_REQUEST):
            span = spans.add(trace_id=rng.randbytes(16), span_id=rng.randbytes(8), name="execute_tool lookup", kind=3)
            span.start_time_unix_nano = span.end_time_unix_nano = 1_700_000_000_000_000_000 + number
            key = f" api_key={rng.randbytes(16).hex()}" if number == 0 else ""
            span.attributes.add(key="gen_ai.tool.call.result").value.string_value = PROSE * 4 + key
            span.attributes.add(key="gen_ai.tool.name").value.string_value = "lookup"
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = number
        bodies.append(request.SerializeToString())
    return bodies


def _send(port: int, bodies: list[bytes]) -> float:
    """At an even pace; a request that is late is sent at once. The seconds it took."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(TRACE_METHOD, request_serializer=bytes, response_deserializer=bytes)
        started, answers = time.monotonic(), []
        for number in range(REQUESTS_PER_SECOND * SECONDS):
            time.sleep(max(0.0, started + number / REQUESTS_PER_SECOND - time.monotonic()))
            answers.append(call.future(bodies[number % len(bodies)], timeout=30))
        for each in answers:
            each.result()
        return time.monotonic() - started


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

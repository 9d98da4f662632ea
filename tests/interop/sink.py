"""An OTLP backend on loopback that keeps every request as it came: gRPC and HTTP (protobuf, JSON), all three signals.

Both servers run in threads of this process and listen on ports the system chooses.
"""

import base64
import gzip
import json
import threading
import time
import zlib
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUEST_TYPES = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
GRPC_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
MAX_MESSAGE_BYTES = 64 << 20
JSON_KEYS = {"traces": "resourceSpans", "logs": "resourceLogs", "metrics": "resourceMetrics"}
JSON_HEX_FIELDS = {"traceId", "spanId", "parentSpanId"}


@dataclass
class Received:
    """One export request. `body` is the payload after decompression, `message` its decoded form; `headers` are kept of
    HTTP only, by lower-case names."""

    signal: str
    transport: str
    encoding: str
    body: bytes
    message: object
    headers: dict = field(default_factory=dict)


@dataclass
class Sink:
    """Start with `with Sink() as sink:`; read `sink.received` after the sender is done.

    `refuse_first` requests are answered with "unavailable, come back" before any is accepted; `delay` seconds pass
    before every answer. With `tls` it wants TLS, and a certificate of its clients.
    """

    refuse_first: int = 0
    delay: float = 0.0
    tls: bool = False
    received: list[Received] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: int = 0

    def __enter__(self):
        self._lock = threading.Lock()
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        )
        self._grpc.add_generic_rpc_handlers((_GrpcHandler(self),))
        if self.tls:
            from certificates import certificates

            made = certificates()
            own = [(made.server.key.read_bytes(), made.server.certificate.read_bytes())]
            credentials = grpc.ssl_server_credentials(own, made.ca.read_bytes(), require_client_auth=True)
            self.grpc_port = self._grpc.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._http = _HttpServer(("127.0.0.1", 0), _HttpHandler)
        self._http.sink = self
        if self.tls:
            self._http.socket = made.server_context(mutual=True).wrap_socket(self._http.socket, server_side=True)
        self.http_port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(grace=1).wait()

    def must_refuse(self) -> bool:
        with self._lock:
            if self.refused >= self.refuse_first:
                return False
            self.refused += 1
            return True

    def keep(self, signal: str, transport: str, encoding: str, body: bytes, headers: dict | None = None) -> bool:
        """Decodes and keeps one request; false, and a line in `errors`, if it cannot be decoded."""
        time.sleep(self.delay)
        try:
            message = _from_json(signal, body) if transport == "http/json" else REQUEST_TYPES[signal].FromString(body)
        except (DecodeError, json_format.ParseError, ValueError) as error:
            self.fault(f"{transport} {signal}: the backend cannot decode the request: {type(error).__name__}")
            return False
        with self._lock:
            self.received.append(Received(signal, transport, encoding, body, message, headers or {}))
        return True

    def fault(self, text: str):
        with self._lock:
            self.errors.append(text)


class _GrpcHandler(grpc.GenericRpcHandler):
    def __init__(self, sink: Sink):
        self._sink = sink

    def service(self, details):
        signal = GRPC_METHODS.get(details.method)
        if signal is None:
            self._sink.fault(f"gRPC: unknown method {details.method}")
            return None

        def export(body, context):
            if self._sink.must_refuse():
                context.abort(grpc.StatusCode.UNAVAILABLE, "come back")
            if not self._sink.keep(signal, "grpc", "", body):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot decode")
            return b""

        return grpc.unary_unary_rpc_method_handler(export)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    sink: Sink


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        sink, body = self.server.sink, self._body()
        kind = self.headers.get("content-type", "").split(";")[0].strip()
        transport = {"application/x-protobuf": "http/protobuf", "application/json": "http/json"}.get(kind)
        signal = self.path.removeprefix("/v1/")
        if transport is None or signal not in REQUEST_TYPES:
            sink.fault(f"HTTP: {self.path} with content type {kind!r}")
            return self._answer(415 if transport is None else 404, kind)
        if sink.must_refuse():
            return self._answer(503, kind)
        encoding = self.headers.get("content-encoding", "")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        elif encoding not in ("", "identity"):
            sink.fault(f"HTTP: unexpected content encoding {encoding!r}")
            return self._answer(415, kind)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return self._answer(200 if sink.keep(signal, transport, encoding, body, headers) else 400, kind)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content_type: str):
        body = b"{}" if content_type == "application/json" else b""
        self.send_response(status)
        self.send_header("content-type", content_type or "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def received_from_lines(data: bytes) -> list[Received]:
    """What the file exporter wrote: one request per line."""
    received = []
    for line in data.splitlines():
        keys = json.loads(line).keys()
        signal = next(signal for signal, key in JSON_KEYS.items() if key in keys)
        received.append(Received(signal, "http/json", "", line, _from_json(signal, line)))
    return received


def _from_json(signal: str, body: bytes):
    """OTLP/JSON is protobuf's JSON mapping, save that ids are hexadecimal."""
    return json_format.ParseDict(_as_protobuf_json(json.loads(body)), REQUEST_TYPES[signal]())


def _as_protobuf_json(value):
    """Ids in base64; and what only JavaScript writes as OTLP means it."""
    if isinstance(value, list):
        return [_as_protobuf_json(each) for each in value]
    if isinstance(value, dict):
        # A number without a fraction is an `intValue` there, however large.
        if isinstance(large := value.get("intValue"), (int, float)) and not -(2**63) <= large < 2**63:
            return {"doubleValue": float(large)}
        return {
            key: base64.b64encode(bytes.fromhex(each)).decode() if key in JSON_HEX_FIELDS else _as_protobuf_json(each)
            for key, each in value.items()
        }
    if isinstance(value, str):
        # Halves of characters, which protobuf does not hold, are read as U+FFFD.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value

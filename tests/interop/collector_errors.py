"""The same requests, well formed and not, to a Collector and to tracegate: their answers side by side.

Each difference must be stated in `collector/deviations.toml` with its reason; one that is stated there and not seen is
a fault too, so that the file says what is so.
"""

import gzip
import http.client
import json
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from case import Row
from collector import COLLECTOR, DATA
from gateway import Gateway, free_ports
from sender import Endpoint

CONFIGURATION = DATA / "errors.yaml"
HTTP_LIMIT, GRPC_LIMIT = 65536, 1 << 20
PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACE_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What a client sees. `text` is the body, or for a google.rpc.Status its code and message."""

    status: str
    kind: str
    text: str
    headers: tuple = ()

    def line(self) -> str:
        extra = "".join(f" {name}={value}" for name, value in self.headers)
        return f"{self.status} {self.kind} {self.text!r}{extra}".strip()


@dataclass(frozen=True)
class HttpRequest:
    """`compare` names the headers of the answer that count besides its content type."""

    name: str
    method: str = "POST"
    path: str = "/v1/traces"
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    compare: tuple = ()

    def send(self, endpoint: Endpoint) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.http_port, timeout=SECONDS)
        try:
            connection.request(self.method, self.path, self.body, self.headers)
            answer = connection.getresponse()
            body, kind = answer.read(), answer.headers.get("content-type", "")
        except (OSError, http.client.HTTPException) as error:
            return Answer("no answer", "", type(error).__name__)
        finally:
            connection.close()
        headers = tuple((name, answer.headers.get(name)) for name in self.compare if answer.headers.get(name))
        return Answer(str(answer.status), kind, _text(answer.status, kind, body), headers)


@dataclass(frozen=True)
class GrpcRequest:
    name: str
    body: bytes
    method: str = TRACE_METHOD
    metadata: tuple = ()

    def send(self, endpoint: Endpoint) -> Answer:
        with grpc.insecure_channel(f"127.0.0.1:{endpoint.grpc_port}") as channel:
            call = channel.unary_unary(self.method, request_serializer=bytes, response_deserializer=bytes)
            try:
                answer = call(self.body, timeout=SECONDS, metadata=self.metadata)
                return Answer("OK", "", answer.hex())
            except grpc.RpcError as error:
                return Answer(error.code().name, "", error.details())


def _status_type():
    """google.rpc.Status without its details: nothing that is installed here brings it."""
    file = descriptor_pb2.FileDescriptorProto(name="interop/status.proto", package="interop", syntax="proto3")
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, type=5, label=1)
    message.field.add(name="message", number=2, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("interop.Status"))


Status = _status_type()


def _text(status: int, kind: str, body: bytes) -> str:
    if status < 400:
        return body.decode("utf-8", "backslashreplace")
    if kind.startswith(PROTOBUF):
        decoded = Status.FromString(body)
        return f"{decoded.code}: {decoded.message}"
    if kind.startswith(JSON):
        decoded = json.loads(body or b"{}")
        return f"{decoded.get('code', 0)}: {decoded.get('message', '')}"
    return body.decode("utf-8", "backslashreplace")


def requests() -> list:
    span = _one_span()
    proto, as_json = {"content-type": PROTOBUF}, {"content-type": JSON}
    valid_json = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [JSON_SPAN]}]}]}).encode()

    def of_json(**fields) -> bytes:
        return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [JSON_SPAN | fields]}]}]}).encode()

    return [
        HttpRequest("http valid protobuf", body=span, headers=proto),
        HttpRequest("http valid json", body=valid_json, headers=as_json),
        HttpRequest("http json with charset", body=valid_json, headers={"content-type": f"{JSON}; charset=utf-8"}),
        HttpRequest("http content type in capitals", body=span, headers={"content-type": PROTOBUF.upper()}),
        HttpRequest("http logs", path="/v1/logs", headers=proto),
        HttpRequest("http metrics", path="/v1/metrics", headers=proto),
        HttpRequest("http empty protobuf", headers=proto),
        HttpRequest("http empty body as json", headers=as_json),
        HttpRequest("http empty json object", body=b"{}", headers=as_json),
        HttpRequest("http no content type", body=span),
        HttpRequest("http wrong content type", body=span, headers={"content-type": "text/plain"}),
        HttpRequest("http application/protobuf", body=span, headers={"content-type": "application/protobuf"}),
        HttpRequest("http broken content type", body=span, headers={"content-type": "application/json; charset"}),
        HttpRequest("http grpc content type", body=span, headers={"content-type": "application/grpc"}),
        HttpRequest("http GET", method="GET", compare=("allow",)),
        HttpRequest("http HEAD", method="HEAD"),
        HttpRequest("http PUT", method="PUT", body=span, headers=proto),
        HttpRequest("http DELETE", method="DELETE", headers=proto),
        HttpRequest("http OPTIONS without origin", method="OPTIONS"),
        HttpRequest("http unknown path", path="/v1/nothing", body=span, headers=proto),
        HttpRequest("http root", method="GET", path="/"),
        HttpRequest("http path with a slash at the end", path="/v1/traces/", body=span, headers=proto),
        HttpRequest("http path twice v1", path="/v1/v1/traces", body=span, headers=proto),
        HttpRequest("http path with query", path="/v1/traces?a=b", body=span, headers=proto),
        HttpRequest("http broken protobuf", body=b"\xff\xff\xff", headers=proto),
        HttpRequest("http cut protobuf", body=span[:-3], headers=proto),
        HttpRequest("http group in protobuf", body=b"\x0b\x0c", headers=proto),
        HttpRequest("http trace id of 15 bytes", body=_one_span(trace_id=b"1" * 15), headers=proto),
        HttpRequest("http span id of 9 bytes", body=_one_span(span_id=b"1" * 9), headers=proto),
        HttpRequest("http json where protobuf is said", body=valid_json, headers=proto),
        HttpRequest("http protobuf where json is said", body=span, headers=as_json),
        HttpRequest("http broken json", body=b'{"resourceSpans": [', headers=as_json),
        HttpRequest("http json array", body=b"[]", headers=as_json),
        HttpRequest("http json null", body=b"null", headers=as_json),
        HttpRequest("http json of the wrong type", body=b'{"resourceSpans": 7}', headers=as_json),
        HttpRequest("http json id not hexadecimal", body=of_json(traceId="z" * 32), headers=as_json),
        HttpRequest("http json id too short", body=of_json(traceId="ab"), headers=as_json),
        HttpRequest("http json unknown field", body=of_json(nosuch={"a": [1]}), headers=as_json),
        HttpRequest("http json enum by name", body=of_json(kind="SPAN_KIND_SERVER"), headers=as_json),
        HttpRequest("http json number for a 64-bit value", body=of_json(startTimeUnixNano=1), headers=as_json),
        HttpRequest("http json text for a number", body=of_json(startTimeUnixNano="soon"), headers=as_json),
        HttpRequest("http json deeply nested", body=_nested_json(2000), headers=as_json),
        HttpRequest("http too large", body=_one_span(name="n" * (2 * HTTP_LIMIT)), headers=proto),
        HttpRequest("http too large json", body=of_json(name="n" * (2 * HTTP_LIMIT)), headers=as_json),
        HttpRequest("http gzip grows too large", body=_gzip(_one_span(name="n" * (8 << 20))), headers=proto | GZIP),
        HttpRequest("http gzip", body=_gzip(span), headers=proto | GZIP),
        HttpRequest("http gzip, capitals", body=_gzip(span), headers=proto | {"content-encoding": "GZIP"}),
        HttpRequest("http gzip that is none", body=span, headers=proto | GZIP),
        HttpRequest("http gzip cut", body=_gzip(span)[:-6], headers=proto | GZIP),
        HttpRequest("http gzip json that is none", body=valid_json, headers=as_json | GZIP),
        HttpRequest("http identity", body=span, headers=proto | {"content-encoding": "identity"}),
        HttpRequest("http unknown encoding", body=span, headers=proto | {"content-encoding": "br"}),
        HttpRequest("http unknown encoding json", body=valid_json, headers=as_json | {"content-encoding": "br"}),
        HttpRequest("http zstd that is none", body=span, headers=proto | {"content-encoding": "zstd"}),
        HttpRequest("http deflate that is none", body=span, headers=proto | {"content-encoding": "deflate"}),
        HttpRequest("http snappy that is none", body=span, headers=proto | {"content-encoding": "snappy"}),
        HttpRequest("http lz4 that is none", body=span, headers=proto | {"content-encoding": "lz4"}),
        HttpRequest("http two encodings", body=_gzip(span), headers=proto | {"content-encoding": "gzip, gzip"}),
        HttpRequest("http cors preflight", method="OPTIONS", headers=PREFLIGHT, compare=CORS),
        HttpRequest("http cors preflight of a stranger", method="OPTIONS", headers=STRANGER, compare=CORS),
        HttpRequest("http cors", body=span, headers=proto | {"origin": ORIGIN}, compare=CORS),
        HttpRequest("http cors of a stranger", body=span, headers=proto | {"origin": "http://b.example"}, compare=CORS),
        GrpcRequest("grpc valid", span),
        GrpcRequest("grpc empty", b""),
        GrpcRequest("grpc broken protobuf", b"\xff\xff\xff"),
        GrpcRequest("grpc cut protobuf", span[:-3]),
        GrpcRequest("grpc trace id of 15 bytes", _one_span(trace_id=b"1" * 15)),
        GrpcRequest("grpc span id of 9 bytes", _one_span(span_id=b"1" * 9)),
        GrpcRequest("grpc invalid utf-8", span.replace(b"a span", b"a \xffpan")),
        GrpcRequest("grpc too large", _one_span(name="n" * (2 * GRPC_LIMIT))),
        GrpcRequest("grpc unknown method", span, TRACE_METHOD.replace("Export", "Nothing")),
        GrpcRequest("grpc unknown service", span, "/opentelemetry.proto.collector.nothing.v1.Service/Export"),
        GrpcRequest(
            "grpc signal without a pipeline", b"", TRACE_METHOD.replace("trace", "metrics").replace("Trace", "Metrics")
        ),
        GrpcRequest("grpc health service", b"", "/grpc.health.v1.Health/Check"),
    ]


GZIP = {"content-encoding": "gzip"}
ORIGIN = "http://a.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}
STRANGER = PREFLIGHT | {"origin": "http://b.example"}
CORS = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-credentials", "vary")
JSON_SPAN = {
    "traceId": "5b8aa5a2d2c872e8321cf37308d69df2",
    "spanId": "5fb397be34d26b51",
    "name": "a span",
    "kind": 1,
    "startTimeUnixNano": "1",
    "endTimeUnixNano": "2",
}


def _one_span(**fields) -> bytes:
    request = ExportTraceServiceRequest()
    values = {"trace_id": b"1" * 16, "span_id": b"2" * 8, "name": "a span", "kind": 1} | fields
    request.resource_spans.add().scope_spans.add().spans.add(**values)
    return request.SerializeToString()


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body)


def _nested_json(depth: int) -> bytes:
    """By hand: Python's encoder does not go so deep."""
    value = '{"arrayValue": {"values": [' * depth + '{"stringValue": "deep"}' + "]}}" * depth
    attribute = '"attributes": [{"key": "nested", "value": ' + value + "}]"
    return ('{"resourceSpans": [{"scopeSpans": [{"spans": [{' + attribute + "}]}]}]}").encode()


def judge(binary: Path, _seed: int, row: Row):
    asked = requests()
    collector, tracegate = (_answers(each, asked) for each in (COLLECTOR, binary))
    with open(DATA / "deviations.toml", "rb") as file:
        stated = {name: each for each in tomllib.load(file)["deviation"] for name in each["requests"]}
    row.faults += compare(asked, collector, tracegate, stated)
    row.sent = str(len(asked))
    equal = sum(collector[each.name] == tracegate[each.name] for each in asked)
    same = sum(collector[each.name].status == tracegate[each.name].status for each in asked)
    row.arrived = f"{equal} equal, {same - equal} same status, {len(asked) - same} other"


def compare(asked, collector, tracegate, stated) -> list[str]:
    """Prints both answers where they differ, equal ones in one line; the differences that are not as stated."""
    equal, faults = [], []
    for request in asked:
        left, right = collector[request.name], tracegate[request.name]
        deviation = stated.pop(request.name, None)
        if left == right:
            equal.append(request.name)
            if deviation:
                faults.append(f"{request.name}: stated as a deviation, but both answer {left.line()}")
            continue
        faults += _deviation_faults(request.name, left, right, deviation)
        print(f"  {request.name}\n    Collector  {_cut(left.line())}\n    tracegate  {_cut(right.line())}")
        print(f"    {'stated: ' + deviation['reason'] if deviation else 'NOT STATED'}")
    print(f"  equal: {', '.join(equal)}")
    faults += [f"{name}: a deviation of a request that is not sent" for name in stated]
    return faults


def _deviation_faults(name: str, left: Answer, right: Answer, deviation: dict | None) -> list[str]:
    if deviation is None:
        return [f"{name}: Collector {_cut(left.line())}, tracegate {_cut(right.line())}"]
    found = []
    for who, answer in (("collector", left), ("tracegate", right)):
        if not re.fullmatch(deviation[who], answer.line(), re.DOTALL):
            found.append(f"{name}: {who} answers {_cut(answer.line())}, stated is {deviation[who]}")
    return found


def _cut(line: str) -> str:
    return line if len(line) <= 220 else f"{line[:200]} …"


def _answers(binary: Path, asked: list) -> dict[str, Answer]:
    grpc_port, http_port = free_ports(2)
    environment = {**os.environ, "GRPC_PORT": str(grpc_port), "HTTP_PORT": str(http_port)}
    with tempfile.TemporaryDirectory(prefix="interop-") as directory:
        endpoint = Endpoint(grpc_port, http_port)
        run = Gateway(binary, Path(directory), endpoint, ["--config", str(CONFIGURATION)], 0, environment)
        try:
            run.start()
            answers = {request.name: request.send(endpoint) for request in asked}
            run.stop()
        finally:
            run.kill()
        return answers

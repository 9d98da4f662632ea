"""Arize Phoenix: started on loopback, fed over OTLP/gRPC or OTLP/HTTP, read through its REST and GraphQL interfaces."""

import os
import urllib.parse
from pathlib import Path

from backends import Backend, send_grpc, send_http
from case import otlp_grpc, otlp_http
from collector import Address
from compare import OWN_ATTRIBUTES, Judge
from gateway import free_ports

PYTHON = os.environ.get("INTEROP_PHOENIX", "target/interop/phoenix/bin/python")
SERVER = Path(__file__).with_name("backends_phoenix_server.py")
PAGE = 1000
QUERY = """query($after: String) { projects { edges { node { name spans(first: 200, after: $after) {
    pageInfo { hasNextPage endCursor }
    edges { node { name spanId statusMessage attributes input { value } output { value } events { name message } } }
} } } } }"""


class Phoenix:
    def __init__(self, directory: Path):
        http_port, grpc_port = free_ports(2)
        self._address = Address(grpc_port, http_port)
        self._base = f"http://127.0.0.1:{http_port}"
        environment = {
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(http_port),
            "PHOENIX_GRPC_PORT": str(grpc_port),
            "PHOENIX_WORKING_DIR": str(directory),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }
        self.server = Backend("Phoenix", [PYTHON, "-P", str(SERVER)], environment, f"{self._base}/healthz", directory)

    def exporter(self, way: str) -> dict:
        return (otlp_grpc("gzip") if way == "grpc" else otlp_http("gzip"))(self._address)

    def send(self, way: str, body: bytes):
        if way == "grpc":
            send_grpc(self._address.grpc_port, body)
        else:
            send_http(f"{self._base}/v1/traces", body, {})

    def stores(self, span) -> bool:
        """Phoenix cannot write an attribute of bytes into its database and drops the span."""
        return not any(_has_bytes(each.value) for each in span.attributes)

    def read(self) -> dict:
        spans, cursor = {}, None
        while True:
            query = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
            path = f"/v1/projects/default/spans?{urllib.parse.urlencode(query)}"
            page = self.server.ask("GET", self._base + path)
            spans |= {each["context"]["span_id"]: each for each in page["data"]}
            cursor = page["next_cursor"]
            if not cursor:
                break
        self._read_graphql(set(spans))
        return spans

    def _read_graphql(self, known: set[str]):
        """What the pages of Phoenix show comes from here."""
        seen, after = set(), None
        while True:
            answer = self.server.ask("POST", f"{self._base}/graphql", {"query": QUERY, "variables": {"after": after}})
            if "errors" in answer:
                raise AssertionError(f"GraphQL: {answer['errors']}")
            pages = [each["node"]["spans"] for each in answer["data"]["projects"]["edges"]]
            seen |= {edge["node"]["spanId"] for page in pages for edge in page["edges"]}
            following = [page["pageInfo"] for page in pages if page["pageInfo"]["hasNextPage"]]
            if not following:
                break
            after = following[0]["endCursor"]
        if not known <= seen:
            raise AssertionError(f"GraphQL shows {len(seen)} spans, REST {len(known)}")

    def delete(self):
        for trace in {each["context"]["trace_id"] for each in self.read().values()}:
            self.server.ask("DELETE", f"{self._base}/v1/traces/{trace}")

    def differences(self, judge: Judge, direct: dict, through: dict) -> list[str]:
        found = []
        for key, span in direct.items():
            _same(judge, _flat(span), _flat(through[key]), found)
        return found


def _has_bytes(value) -> bool:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return any(_has_bytes(each) for each in value.array_value.values)
    if kind == "kvlist_value":
        return any(_has_bytes(each.value) for each in value.kvlist_value.values)
    return kind == "bytes_value"


def _flat(span: dict) -> dict:
    """Leaves by their path; Phoenix takes dotted keys apart, so a path is the key again. Its own id is left out."""
    leaves = {}

    def walk(value, path):
        if isinstance(value, dict) and value:
            for key, each in value.items():
                walk(each, f"{path}.{key}")
        elif isinstance(value, list) and value:
            for index, each in enumerate(value):
                walk(each, f"{path}.{index}")
        elif not any(mark in path for mark in (f"attributes.{OWN_ATTRIBUTES}",)):
            leaves[path] = value

    walk({key: value for key, value in span.items() if key != "id"}, "span")
    return leaves


def _same(judge: Judge, direct: dict, through: dict, found: list[str]):
    """Keys may hold planted values too: a path that is not there as it is must be there masked."""
    left = dict(through)
    for path, value in direct.items():
        if path in left:
            judge.value(value, left.pop(path), path, found)
            continue
        masked = [other for other in left if not _faults(judge, path, other)]
        if len(masked) != 1:
            found.append(f"{judge.hidden(path)}: {len(masked)} of this path behind tracegate")
            continue
        judge.value(value, left.pop(masked[0]), masked[0], found)
    found += [f"{judge.hidden(path)}: only behind tracegate" for path in left]


def _faults(judge: Judge, expected: str, actual: str) -> list[str]:
    found = []
    judge.value(expected, actual, "key", found)
    return found

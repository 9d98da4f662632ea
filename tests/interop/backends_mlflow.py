"""MLflow: started on loopback, fed over OTLP/HTTP, read by searching its traces and getting each with its spans."""

import os
import urllib.parse
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backends import Backend, send_http
from case import RETRY
from compare import Item, Judge
from gateway import free_ports

PYTHON = os.environ.get("INTEROP_MLFLOW", "target/interop/mlflow/bin/python")
EXPERIMENT = "0"
HEADER = {"x-mlflow-experiment-id": EXPERIMENT}


class Mlflow:
    def __init__(self, directory: Path):
        (port,) = free_ports(1)
        self._base = f"http://127.0.0.1:{port}"
        command = [PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
        command += ["--default-artifact-root", str(directory / "artifacts")]
        environment = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.server = Backend("MLflow", command, environment, f"{self._base}/health", directory)

    def exporter(self, _way: str) -> dict:
        # Headers and the endpoint are all that a user must set for MLflow.
        return {"otlp_http": {"endpoint": self._base, "headers": HEADER, "compression": "gzip"} | RETRY}

    def send(self, _way: str, body: bytes):
        send_http(f"{self._base}/v1/traces", body, HEADER)

    def stores(self, _span) -> bool:
        return True

    def read(self) -> dict:
        spans = {}
        for trace in self._traces():
            path = f"/api/3.0/mlflow/traces/get?{urllib.parse.urlencode({'trace_id': trace})}"
            answer = self.server.ask("GET", self._base + path)
            for each in answer["trace"].get("spans", []):
                span = json_format.ParseDict(each, Span(), ignore_unknown_fields=True)
                spans[span.span_id.hex()] = span
        return spans

    def _traces(self) -> list[str]:
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": EXPERIMENT}}
        found, token = [], None
        while True:
            body = {"locations": [location], "max_results": 100} | ({"page_token": token} if token else {})
            page = self.server.ask("POST", f"{self._base}/api/3.0/mlflow/traces/search", body)
            found += [each["trace_id"] for each in page.get("traces", [])]
            token = page.get("next_page_token")
            if not token:
                return found

    def delete(self):
        body = {"experiment_id": EXPERIMENT, "request_ids": self._traces()}
        self.server.ask("POST", f"{self._base}/api/3.0/mlflow/traces/delete-traces", body)

    def differences(self, judge: Judge, direct: dict, through: dict) -> list[str]:
        return judge.differences(
            *([Item("traces", key, {"span": span}) for key, span in each.items()] for each in (direct, through))
        )

"""Real backends behind tracegate: Arize Phoenix and MLflow. What a run looks like in them, directly and through it."""

import tempfile
from pathlib import Path

import backends
from backends_mlflow import Mlflow
from backends_phoenix import Phoenix
from case import Row
from collector import Check


def through(make, way: str):
    def judge(binary: Path, seed: int, row: Row):
        with tempfile.TemporaryDirectory(prefix="interop-") as directory:
            backend = make(Path(directory))
            with backend.server:
                backends.judge(backend, way, binary, seed, row)

    return judge


CASES = [
    Check("phoenix", "grpc", through(Phoenix, "grpc")),
    Check("phoenix-http", "http/protobuf", through(Phoenix, "http")),
    Check("mlflow", "http/protobuf", through(Mlflow, "http")),
]

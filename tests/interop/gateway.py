"""Starts and stops the tracegate binary as a user would: a configuration file, ports, SIGTERM."""

import itertools
import json
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from sender import Endpoint

READY = "Everything is ready. Begin running and processing data."
START_SECONDS = 20
STOP_SECONDS = 30
# How the binary, or the runtime of Rust or Go, reports a panic.
DEFECTS = (b"defect in tracegate", b"panicked at", b"panic: ")
DEFAULT_PORTS = {"OTLP/gRPC": 4317, "OTLP/HTTP": 4318, "metrics": 8888, "health": 13133}


class GatewayFault(Exception):
    """The binary did not start, or did not stop as it must."""


class Gateway:
    """One run of the binary in a directory of its own, in which everything it writes stays."""

    def __init__(
        self,
        binary: Path,
        directory: Path,
        endpoint: Endpoint,
        arguments: list[str],
        metrics_port: int,
        environment: dict[str, str] | None = None,
    ):
        self.endpoint = replace(endpoint, terminate=self.terminate)
        self.name = directory.name
        self.started = self.terminated = False
        self._binary, self._directory, self._arguments = binary, directory, arguments
        self._metrics_port, self._environment = metrics_port, environment
        self._ready = threading.Event()
        self._stderr: list[bytes] = []

    def start(self):
        self._out = open(self._directory / "stdout.log", "wb")
        self._process = subprocess.Popen(
            [str(self._binary), *self._arguments],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self.started = True
        end = time.monotonic() + START_SECONDS
        while not self._ready.wait(0.05):
            if self._process.poll() is not None:
                self._reader.join()
                raise GatewayFault(f"exit code {self._process.returncode} at start\n{self.said()}")
            if time.monotonic() > end:
                self.kill()
                raise GatewayFault(f"not ready after {START_SECONDS} s\n{self.said()}")

    def _read_stderr(self):
        with open(self._directory / "stderr.log", "wb") as log:
            for line in self._process.stderr:
                log.write(line)
                self._stderr.append(line)
                if READY.encode() in line:
                    self._ready.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    def defects(self) -> list[str]:
        return [line.decode(errors="replace").strip() for line in self._stderr if any(each in line for each in DEFECTS)]

    def said(self) -> str:
        """The last lines of standard error."""
        return b"".join(self._stderr[-15:]).decode(errors="replace")

    def metrics_page(self) -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10) as answer:
                return answer.read()
        except OSError as error:
            raise GatewayFault(f"metrics page: {error}\n{self.said()}") from None

    def terminate(self):
        """SIGTERM, once; returns at once."""
        if not self.terminated:
            self.terminated = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM; the gateway must deliver what it acknowledged and exit with 0."""
        self.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise GatewayFault(f"still running {STOP_SECONDS} s after SIGTERM\n{self.said()}") from None
        self._close()
        if code != 0:
            raise GatewayFault(f"exit code {code} after SIGTERM\n{self.said()}")

    def pause(self):
        """Stops the process where it stands; connections are still accepted, by the system, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def successor(self, directory: Path, change=lambda config: config) -> "Gateway":
        """Another run on the same ports, of the same configuration or a changed one; not started."""
        *arguments, config = self._arguments
        path = directory / "config.yaml"
        path.write_text(change(Path(config).read_text()))
        return Gateway(self._binary, directory, self.endpoint, [*arguments, str(path)], self._metrics_port)

    def kill(self):
        if not self.started:
            return
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self):
        self._reader.join(5)
        self._out.close()

    def written(self) -> dict[str, bytes]:
        """Everything in the run's directory but the configuration."""
        files = [each for each in self._directory.rglob("*") if each.is_file() and each.name != "config.yaml"]
        return {str(each.relative_to(self._directory)): each.read_bytes() for each in files}


# Below the ports the system gives to outgoing connections, which could take one between here and the program's start.
OWN_PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """Ports where nobody listens; each is given out once, and programs beside this one begin elsewhere."""
    found: list[int] = []
    while len(found) < count:
        with _turn:
            port = next(_candidates)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def _from_anywhere():
    ports = list(OWN_PORTS)
    random.SystemRandom().shuffle(ports)
    yield from itertools.cycle(ports)


_candidates = _from_anywhere()
_turn = threading.Lock()


def busy_default_ports() -> list[str]:
    busy = []
    for name, port in DEFAULT_PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                busy.append(f"{port} ({name})")
    return busy


def configured(
    binary: Path, directory: Path, exporters: dict, processors: dict, listen=None, command=("run",)
) -> Gateway:
    """A gateway run from a configuration file in the Collector's shape; every pipeline gets all of both."""
    grpc_port, http_port, metrics_port = free_ports(3)
    pipeline = {"receivers": ["otlp"], "processors": list(processors), "exporters": list(exporters)}
    prometheus = {"host": "127.0.0.1", "port": metrics_port}
    ports = {"grpc": grpc_port, "http": http_port}
    protocols, told = {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in ports.items()}, {}
    if listen:
        protocols, told = listen(directory, protocols)
    config = {
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": processors,
        "exporters": exporters,
        "service": {
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}},
            "pipelines": {signal_name: pipeline for signal_name in ("traces", "logs", "metrics")},
        },
    }
    path = directory / "config.yaml"
    path.write_text("\n".join(_yaml(config, 0)) + "\n")
    endpoint = Endpoint(grpc_port, http_port, **told)
    return Gateway(binary, directory, endpoint, [*command, "--config", str(path)], metrics_port)


def _yaml(value: dict, depth: int) -> list[str]:
    """Block style, as people write it; lists and empty maps in flow style, scalars as JSON (which is YAML)."""
    lines = []
    for key, each in value.items():
        if isinstance(each, dict) and each:
            lines += [f"{'  ' * depth}{key}:", *_yaml(each, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {json.dumps(each)}")
    return lines


def unconfigured(binary: Path, directory: Path, sink_port: int) -> Gateway:
    """A gateway run without a configuration file, on the default ports."""
    endpoint = Endpoint(DEFAULT_PORTS["OTLP/gRPC"], DEFAULT_PORTS["OTLP/HTTP"], by_default=True)
    arguments = ["--to", f"http://127.0.0.1:{sink_port}"]
    return Gateway(binary, directory, endpoint, arguments, DEFAULT_PORTS["metrics"])

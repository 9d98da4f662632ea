"""A real OpenTelemetry Collector on loopback: configured, started and stopped like the gateway, alone or in a chain."""

import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import gateway
from case import Row
from gateway import Gateway
from sender import Endpoint

# Set by `run`, which builds both from the module in `collector/`.
BINARIES = Path(os.environ.get("INTEROP_COLLECTOR", "target/interop/collector")).absolute()
COLLECTOR = BINARIES / "collector"
TELEMETRYGEN = BINARIES / "telemetrygen"
DATA = Path(__file__).parent / "collector"

PROCESSORS = {"memory_limiter": {"check_interval": "1s", "limit_mib": 1024}, "batch": {}}


@dataclass
class Address:
    """What the exporters of cases read of a backend: its ports."""

    grpc_port: int
    http_port: int


def configured(directory: Path, exporters: dict, processors: dict | None = None) -> Gateway:
    """A Collector with an OTLP receiver on free ports whose pipelines all have these processors and exporters."""
    directory.mkdir(parents=True, exist_ok=True)
    return gateway.configured(
        COLLECTOR, directory, exporters, PROCESSORS if processors is None else processors, command=()
    )


@dataclass
class Chain:
    """Processes one behind the other, driven as if they were one gateway; `parts` in the direction of the data.

    Started from the back; stopped from the front, each only after the one before it has delivered everything.
    """

    parts: list[Gateway]
    tracegate: Gateway
    terminated: bool = field(default=False, init=False)

    @property
    def endpoint(self) -> Endpoint:
        return self.parts[0].endpoint

    def start(self):
        for part in reversed(self.parts):
            part.start()

    def metrics_page(self) -> bytes:
        """Tracegate's page when everything before it has delivered."""
        for part in self.parts[: self.parts.index(self.tracegate)]:
            part.stop()
        return self.tracegate.metrics_page()

    def stop(self):
        for part in self.parts:
            if not part.terminated:
                part.stop()

    def kill(self):
        for part in self.parts:
            part.kill()

    def defects(self) -> list[str]:
        return [line for part in self.parts for line in part.defects()]

    def written(self) -> dict[str, bytes]:
        """What tracegate and everything behind it wrote; what stands before it may know the secrets."""
        behind = self.parts[self.parts.index(self.tracegate) :]
        return {f"{part.name}/{name}": data for part in behind for name, data in part.written().items()}


def in_front(exporter):
    """SDK → Collector → tracegate → sink; `exporter` is the Collector's."""

    def build(case, binary: Path, directory: Path, sink) -> Chain:
        (directory / "tracegate").mkdir()
        tracegate = gateway.configured(binary, directory / "tracegate", case.exporter(sink), case.processors)
        address = Address(tracegate.endpoint.grpc_port, tracegate.endpoint.http_port)
        return Chain([configured(directory / "collector", exporter(address)), tracegate], tracegate)

    return build


def behind(exporter):
    """SDK → tracegate → Collector → sink; `exporter` is tracegate's, that of the case the Collector's."""

    def build(case, binary: Path, directory: Path, sink) -> Chain:
        collector = configured(directory / "collector", case.exporter(sink))
        address = Address(collector.endpoint.grpc_port, collector.endpoint.http_port)
        (directory / "tracegate").mkdir()
        tracegate = gateway.configured(binary, directory / "tracegate", exporter(address), case.processors)
        return Chain([tracegate, collector], tracegate)

    return build


def between(first, second):
    """SDK → Collector → tracegate → Collector → sink; `first` exports to tracegate, `second` is tracegate's."""

    def build(case, binary: Path, directory: Path, sink) -> Chain:
        chain = behind(second)(case, binary, directory, sink)
        address = Address(chain.tracegate.endpoint.grpc_port, chain.tracegate.endpoint.http_port)
        front = configured(directory / "front", first(address))
        return Chain([front, *chain.parts], chain.tracegate)

    return build


@dataclass(frozen=True)
class Check:
    """A case that is not one run with a control copy: `judge(binary, seed, row)` fills in the row and its faults."""

    name: str
    transport: str
    judge: object

    def run(self, binary: Path | None, seed: int) -> Row:
        row, started = Row(self.name, self.transport), time.monotonic()
        try:
            if binary is None:
                row.faults.append("needs --binary: there is nothing to compare")
            else:
                self.judge(binary, seed, row)
        except gateway.GatewayFault as fault:
            row.faults.append(str(fault))
        except Exception as error:  # One broken part must not hide what the others found.
            row.faults.append(f"harness: {''.join(traceback.format_exception(error))[-1500:]}")
        row.faults = list(dict.fromkeys(row.faults))
        row.seconds = f"{time.monotonic() - started:.1f}"
        row.verdict = "FAILED" if row.faults else "ok"
        return row

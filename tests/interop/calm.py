"""Agents never suffer: real SDKs with their defaults, while the gateway is away, slow or refuses.

    calm.py --binary TRACEGATE --results FILE [--seed N] [CASE…]

Every case runs the same small agent four times at once, Python and JavaScript over gRPC and HTTP, against a gateway of
its own that is in trouble for INTEROP_CALM_SECONDS (20 without it; 300 is five minutes), and prints what the SDK lost.
All cases run at once, for most of the time nothing happens. An agent fails its case if its output or exit code differs
from what it is without any trouble, if its work takes longer, or if it ends later than the SDK's own bound for its
shutdown allows. The gateway fails it if a planted value survives, or if it takes no telemetry once the trouble is over.

To see a case fail, set INTEROP_CALM_EXPORT=each, which makes the Python agents export each span while they work.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import gateway
from case import MASKING, RETRY
from compare import Judge, items
from js_cases import NODE, PROGRAMS
from plant import Planter
from sender import Endpoint
from sink import Received, Sink

TROUBLE = float(os.environ.get("INTEROP_CALM_SECONDS", "20"))
BEFORE = 6.0
# gRPC's pauses between attempts to connect grow by 1.6, to two minutes: the next may last 0.6 of what has passed, and a
# fifth more by chance.
AFTER = 6.0 + min(0.72 * (BEFORE + TROUBLE), 144.0)
PAUSE = 0.2
STEPS = round((BEFORE + TROUBLE + AFTER) / PAUSE)
EXIT_CODE = 7
# Python's BatchSpanProcessor.shutdown gives up after 30 s, JavaScript's waits 30 s for an export.
SHUTDOWN_SECONDS = 30.0
# For a busy machine: what an agent's work may take longer, and its end come later. Each of its pauses is a little late.
SLACK_SECONDS = 6.0 + STEPS * PAUSE * 0.02
READY_SECONDS = 120
SLOW_SECONDS = 10.0
ENDLESS = 1 << 30
REFUSED = re.compile(
    r'otelcol_receiver_refused_spans(?:_total)?\{[^}]*transport="(?P<transport>\w+)"[^}]*\} (?P<value>[0-9.e+]+)'
)

HERE = Path(__file__).parent
CLIENTS = {
    "py-grpc": ("grpc", [sys.executable, str(HERE / "calm_agent.py")]),
    "py-http": ("http/protobuf", [sys.executable, str(HERE / "calm_agent.py")]),
    "js-grpc": ("grpc", [NODE, str(PROGRAMS / "calm.mjs")]),
    "js-http": ("http/protobuf", [NODE, str(PROGRAMS / "calm.mjs")]),
}
OUTPUT = "".join(f"step {n}: {hashlib.sha256(str(n).encode()).hexdigest()}\n" for n in range(STEPS)) + "done\n"
HEAD = (
    "case",
    "client",
    "spans",
    "delivered",
    "twice",
    "lost",
    "longest step",
    "extra work",
    "shutdown",
    "exit",
    "verdict",
)


@dataclass
class Trouble:
    """What is wrong with the gateway, and when. `begin` and `end` get the `Scene`.

    `absent`: there never is a gateway. `early`: the trouble is there before the agents start. `back`: telemetry must
    arrive again afterwards. `lossless`: nothing may be lost. `refuses`: the gateway must have refused requests.
    """

    name: str
    begin: object = lambda scene: None
    end: object = lambda scene: None
    queue: dict = field(default_factory=dict)
    processors: dict = field(default_factory=lambda: MASKING)
    sink: dict = field(default_factory=dict)
    absent: bool = False
    early: bool = False
    back: bool = True
    lossless: bool = False
    refuses: bool = False


class Scene:
    """One gateway, which may have a successor on its ports, and its backend."""

    def __init__(self, trouble: Trouble, binary: Path, directory: Path, sink: Sink):
        self.trouble, self.sink = trouble, sink
        self._directory = directory
        # Five seconds are the default: a backend that takes ten would get everything again and again.
        target = {"endpoint": f"127.0.0.1:{sink.grpc_port}", "tls": {"insecure": True}, "timeout": "30s"}
        exporter = target | {"retry_on_failure": RETRY["retry_on_failure"] | {"max_elapsed_time": "0s"}}
        exporter |= {"sending_queue": trouble.queue} if trouble.queue else {}
        self.runs = [gateway.configured(binary, self._place(), {"otlp_grpc": exporter}, trouble.processors)]
        self.started = False
        self.refused: set[str] = set()

    def _place(self) -> Path:
        place = self._directory / f"run{len(getattr(self, 'runs', []))}"
        place.mkdir()
        return place

    @property
    def endpoint(self) -> Endpoint:
        return self.runs[0].endpoint

    def start(self):
        self.started = True
        self.runs[-1].start()

    def kill(self):
        self.runs[-1].kill()

    def replace(self, change=lambda config: config):
        self.runs.append(self.runs[-1].successor(self._place(), change))
        self.runs[-1].start()

    def stop(self):
        if self.started:
            self.runs[-1].stop()

    def note_refused(self):
        """Over which transports the gateway says it refused spans, so far."""
        for line in self.runs[-1].metrics_page().decode().splitlines():
            metric = REFUSED.match(line)
            if metric and float(metric["value"]) > 0:
                self.refused.add(metric["transport"])


def _dead_backend(scene: Scene):
    scene.sink.refuse_first = ENDLESS


def _backend_again(scene: Scene):
    scene.note_refused()
    scene.sink.refuse_first = 0


def _more_memory(scene: Scene):
    scene.note_refused()
    scene.runs[-1].stop()
    scene.replace(lambda config: config.replace("limit_mib: 1\n", "limit_mib: 1024\n"))


TIGHT = {"num_consumers": 1, "queue_size": 4}
CASES = [
    Trouble("calm-healthy", lossless=True),
    # Nothing listens, from first to last.
    Trouble("calm-down", absent=True, back=False),
    # Connections are accepted and nothing is ever answered: the process is stopped. Later it goes on.
    Trouble("calm-silent", lambda scene: scene.runs[-1].pause(), lambda scene: scene.runs[-1].resume(), early=True),
    # An answer waits for a backend that takes ten seconds, which is how long the SDKs wait.
    Trouble(
        "calm-slow", queue={"wait_for_result": True, "num_consumers": 16}, sink={"delay": SLOW_SECONDS}, back=False
    ),
    # 503 and UNAVAILABLE: the backend refuses, the queue is full.
    Trouble("calm-queue-full", _dead_backend, _backend_again, queue=TIGHT, refuses=True),
    # 503 and UNAVAILABLE: the process is over its memory limit.
    Trouble(
        "calm-memory",
        end=_more_memory,
        processors=MASKING | {"memory_limiter": {"check_interval": "1s", "limit_mib": 1}},
        early=True,
        refuses=True,
    ),
    # kill -9 in the middle; later another process on the same ports.
    Trouble("calm-killed", Scene.kill, Scene.replace),
]


@dataclass
class Agent:
    """One run of an agent: what it printed and when it came to its end."""

    client: str
    process: subprocess.Popen
    report: Path
    output: str = ""
    ended: float = 0.0
    hung: bool = False

    def wait_ready(self):
        if self.process.stdout.readline() != "ready\n":
            errors = self.report.with_suffix(".stderr").read_text(errors="replace")[-800:]
            raise gateway.GatewayFault(f"harness: {self.client} did not start: {errors}")

    def work(self, deadline: float):
        """From "go" to the end of the process."""
        watch = threading.Timer(deadline, self._too_late)
        watch.start()
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.close()
            self.output = self.process.stdout.read()
            self.process.wait()
        finally:
            watch.cancel()
        self.ended = time.monotonic()

    def _too_late(self):
        self.hung = True
        self.process.kill()


def _agents(scene: Scene, directory: Path, secrets: list[str]) -> list[Agent]:
    agents = []
    for client, (protocol, command) in CLIENTS.items():
        port = scene.endpoint.grpc_port if protocol == "grpc" else scene.endpoint.http_port
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_RESOURCE_ATTRIBUTES": f"service.name={client}",
            "CALM_SECRETS": json.dumps(secrets),
        }
        report = directory / f"{client}.json"
        with open(directory / f"{client}.stderr", "wb") as errors:
            process = subprocess.Popen(
                [*command, str(STEPS), str(PAUSE), str(report)],
                env=os.environ | told,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        agents.append(Agent(client, process, report))
    return agents


def run_case(trouble: Trouble, binary: Path, seed: int, together: threading.Barrier) -> list[dict]:
    planter = Planter(seed)
    secrets = [each.text for each in planter.every_kind()]
    with tempfile.TemporaryDirectory(prefix="interop-") as name, Sink(**trouble.sink) as sink, ExitStack() as cleanup:
        directory = Path(name)
        scene = Scene(trouble, binary, directory, sink)
        cleanup.callback(lambda: [run.kill() for run in scene.runs] if scene.started else None)
        faults, agents = [], []
        try:
            agents = _agents(scene, directory, secrets)
            for agent in agents:
                cleanup.callback(agent.process.wait)
                cleanup.callback(agent.process.kill)
            for agent in agents:
                agent.wait_ready()
            if not trouble.absent:
                scene.start()
        except gateway.GatewayFault as fault:
            faults.append(str(fault))
        # Also a case that cannot start lets the others begin.
        together.wait(READY_SECONDS)
        if faults:
            return [{"cells": {"case": trouble.name, "client": each}, "faults": faults} for each in CLIENTS]
        try:
            _play(scene, agents)
            scene.stop()
        except gateway.GatewayFault as fault:
            faults.append(str(fault))
        faults += [each for run in scene.runs for each in run.defects()]
        faults += sink.errors
        if trouble.refuses and scene.refused != {"grpc", "http"}:
            faults.append(f"harness: the gateway refused over {' and '.join(scene.refused) or 'no transport'} only")
        judge = Judge(planter.planted)
        seen = b"\n".join(each.body for each in sink.received)
        places = {"sink": seen, **{name: data for run in scene.runs for name, data in run.written().items()}}
        for place, data in places.items():
            faults += [f"survived: {each.kind} in {place}" for each in judge.survivors(data)]
        return [_row(trouble, agent, sink.received, faults) for agent in agents]


def _play(scene: Scene, agents: list[Agent]):
    trouble = scene.trouble
    if trouble.early:
        trouble.begin(scene)
    deadline = BEFORE + TROUBLE + AFTER + SHUTDOWN_SECONDS + 2 * SLACK_SECONDS
    with ThreadPoolExecutor(len(agents)) as pool:
        working = [pool.submit(agent.work, deadline) for agent in agents]
        time.sleep(BEFORE)
        if not trouble.early:
            trouble.begin(scene)
        time.sleep(TROUBLE)
        trouble.end(scene)
        for each in working:
            each.result()


def _row(trouble: Trouble, agent: Agent, received: list[Received], shared: list[str]) -> dict:
    faults = []
    spans = [
        item
        for item in items(received)
        if any(
            each.key == "service.name" and each.value.string_value == agent.client
            for each in item.parts["resource"].attributes
        )
    ]
    counts = Counter(item.key for item in spans)
    came_back = any(item.parts["span"].name == "invoke_agent calm" for item in spans)
    code = agent.process.returncode
    if agent.hung:
        faults.append("the agent was still running when the SDK's own timeouts were over")
    if code != EXIT_CODE and not agent.hung:
        faults.append(f"the agent ended with exit code {code}, not {EXIT_CODE}")
    if agent.output != OUTPUT:
        faults.append("the agent's output changed")
    told = json.loads(agent.report.read_text()) if agent.report.exists() else None
    cells = {"case": trouble.name, "client": agent.client, "exit": str(code)}
    if told:
        lost, extra = told["made"] - len(counts), told["work"] - STEPS * PAUSE
        cells |= {
            "spans": str(told["made"]),
            "delivered": str(len(counts)),
            "twice": str(sum(counts.values()) - len(counts)),
            "lost": str(lost),
            "longest step": f"{told['longest_step'] * 1000:.0f} ms",
            "extra work": f"{extra:.1f} s",
            "shutdown": f"{told['shutdown']:.1f} s",
        }
        if extra > SLACK_SECONDS:
            faults.append(f"the agent's work took {extra:.1f} s longer")
        if told["shutdown"] > SHUTDOWN_SECONDS + SLACK_SECONDS:
            faults.append(f"the shutdown took {told['shutdown']:.1f} s")
        if trouble.lossless and lost:
            faults.append(f"{lost} spans were lost without any trouble")
        if trouble.back and not came_back:
            faults.append("what the agent sent after the trouble did not arrive")
    return {"cells": cells, "faults": [*shared, *(f"{agent.client}: {each}" for each in faults)]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20260301)
    options = parser.parse_intermixed_args()
    chosen = [each for each in CASES if not options.cases or each.name in options.cases]
    if not chosen:
        return 0
    print(f"calm: {', '.join(each.name for each in chosen)}: trouble of {TROUBLE:g} s …", flush=True)
    together = threading.Barrier(len(chosen))
    # Told to stop, it lets the cases come to their end, so that no process stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = False
    with ThreadPoolExecutor(len(chosen)) as pool, open(options.results, "a") as out:
        for rows in pool.map(lambda each: run_case(each, options.binary, options.seed, together), chosen):
            shown = set()
            for row in rows:
                verdict = "FAILED" if row["faults"] else "ok"
                failed |= bool(row["faults"])
                cells = row["cells"] | {"verdict": verdict}
                print(f"{verdict:8} {cells['case']} {cells['client']}", flush=True)
                # Faults of the gateway are every agent's; shown with the first.
                for fault in [each for each in row["faults"] if each not in shown]:
                    print(f"         - {fault}")
                shown.update(row["faults"])
                cells = [cells.get(name, "-") for name in HEAD]
                out.write(json.dumps({"head": HEAD, "cells": cells, "verdict": verdict}) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

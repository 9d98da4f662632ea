"""A small agent in Python under the official SDK with its defaults: steps with spans, an output, an exit code.

    calm_agent.py STEPS SECONDS_PER_STEP REPORT

Endpoint, protocol and service name come from the OTEL_* variables, as users set them. It says `ready`, waits for a line
on standard input, works, prints one line per step, shuts the SDK down and ends with exit code 7. What it made and how
long that took goes into the file REPORT. `js/calm.mjs` is the same in JavaScript.
"""

import hashlib
import json
import os
import sys
import time

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

EXIT_CODE = 7
PROMPT = "The customer asks where parcel NF-2026-00017 is and whether the invoice can be sent again. " * 8


def exporter():
    if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    return OTLPSpanExporter()


def main(steps: int, pause: float, report: str) -> int:
    secrets = json.loads(os.environ["CALM_SECRETS"])
    provider = TracerProvider()
    each = os.environ.get("INTEROP_CALM_EXPORT") == "each"
    provider.add_span_processor(SimpleSpanProcessor(exporter()) if each else BatchSpanProcessor(exporter()))
    tracer = provider.get_tracer("calm")
    print("ready", flush=True)
    sys.stdin.readline()
    began, made, longest = time.monotonic(), 0, 0.0
    with tracer.start_as_current_span("invoke_agent calm"):
        for number in range(steps):
            time.sleep(pause)
            step_began = time.monotonic()
            with tracer.start_as_current_span("step") as step:
                step.set_attribute("app.step", number)
                for name in ("chat gpt-5-mini", "execute_tool lookup"):
                    with tracer.start_as_current_span(name) as span:
                        span.set_attribute("gen_ai.input.messages", f"{PROMPT} {secrets[number % len(secrets)]}")
            made += 3
            print(f"step {number}: {hashlib.sha256(str(number).encode()).hexdigest()}", flush=True)
            longest = max(longest, time.monotonic() - step_began)
    made += 1
    worked = time.monotonic()
    provider.shutdown()
    ended = time.monotonic()
    print("done", flush=True)
    with open(report, "w") as out:
        json.dump({"made": made, "work": worked - began, "shutdown": ended - worked, "longest_step": longest}, out)
    return EXIT_CODE


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))

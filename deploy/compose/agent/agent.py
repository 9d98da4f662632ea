"""An agent that leaks: every few seconds one span with a token and a mail address that nobody should store.

Where it sends to is the usual OTEL_EXPORTER_OTLP_ENDPOINT. With a number as argument it sends that many and ends.
"""

import itertools
import sys
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

# Of the right form, and nobody's: put together here so that scanners of source code stay calm.
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
PROMPT = f"Clone the repository with {TOKEN} and write to jane.doe@example.com when you are done."


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("support-agent")
    rounds = range(int(sys.argv[1])) if len(sys.argv) > 1 else itertools.count()
    try:
        for number in rounds:
            with tracer.start_as_current_span("chat example-model") as span:
                span.set_attribute("gen_ai.operation.name", "chat")
                span.set_attribute("gen_ai.input.messages", PROMPT)
                span.set_attribute("agent.round", number)
            print(f"sent span {number}", flush=True)
            if len(sys.argv) == 1:
                time.sleep(5)
    finally:
        provider.shutdown()


if __name__ == "__main__":
    main()

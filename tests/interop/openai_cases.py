"""The official `opentelemetry-instrumentation-openai-v2`: content travels in log records with bodies of nested maps."""

import json
import os

from case import Case, Said, otlp_http
from model import ScriptedModel
from sender import Sender
from story import SERVICE, Story, ToolDown, said

# A span per request to the model and one around each turn.
LEAST = 6
LEAST_LOGS = 8


def openai_v2(transport, compression, control, gateway, planter) -> Said:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    from openai import OpenAI
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    from opentelemetry.trace import Status, StatusCode

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    tracer = sender.traces.get_tracer("support.app")
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces, logger_provider=sender.logs, meter_provider=sender.metrics)

    def tool(call) -> str:
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": call.function.arguments}
        with tracer.start_as_current_span(f"execute_tool {call.function.name}", attributes=attributes) as span:
            try:
                return story.call(call.function.name)
            except ToolDown as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, str(error)))
                return json.dumps({"error": str(error)})

    try:
        with ScriptedModel(story.script) as model, OpenAI(base_url=model.url, api_key="unused") as client:
            messages = [{"role": "system", "content": story.system}]
            for ask in story.ask:
                messages.append({"role": "user", "content": ask})
                with tracer.start_as_current_span("invoke_agent support"):
                    while True:
                        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
                        message = answer.choices[0].message
                        messages.append(message.model_dump(exclude_none=True))
                        if not message.tool_calls:
                            break
                        for call in message.tool_calls:
                            messages.append({"role": "tool", "tool_call_id": call.id, "content": tool(call)})
    finally:
        instrumentor.uninstrument()
    faults = list(model.faults)
    judged = said(sender, faults, planter, least=LEAST)
    if judged.sent["logs"] < LEAST_LOGS:
        judged.faults.append(
            f"harness: {judged.sent['logs']} log records, {LEAST_LOGS} expected: content is not captured"
        )
    return judged


CASES = [
    Case("openai-v2", "grpc", openai_v2),
    Case("openai-v2-http", "http/protobuf", openai_v2, exporter=otlp_http(encoding="json"), arrives_as=("http/json",)),
]

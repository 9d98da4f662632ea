"""Spans as agents send them to backends made for agents: OpenInference attributes with planted values."""

import json

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from plant import Planter


class AgentRun:
    """Two turns of a support agent: retrieval, a model call, a tool that once fails. `created` counts the spans."""

    def __init__(self, provider: TracerProvider, planter: Planter):
        self._tracer = provider.get_tracer("openinference.interop", "1.0")
        self._planter = planter
        self.created = 0

    def emit(self):
        for turn in range(2):
            question = f"Turn {turn}: where is NF-2026-00017? My card is {self._planter.kind('card-visa').text}."
            with self._span("support agent", "AGENT") as root:
                root.set_attributes({"session.id": "session-7", "user.id": "customer-4711", "input.value": question})
                self._retrieve(question)
                self._ask_model(question, turn)
                self._call_tool(turn)
                root.set_attribute("output.value", f"It is held. I used {self._planter.any().text} to check.")

    def _span(self, name: str, kind: str):
        self.created += 1
        return self._tracer.start_as_current_span(name, attributes={"openinference.span.kind": kind})

    def _retrieve(self, question: str):
        with self._span("retrieve", "RETRIEVER") as span:
            span.set_attribute("input.value", question)
            for number in range(3):
                document = f"retrieval.documents.{number}.document"
                span.set_attribute(f"{document}.id", f"doc-{number}")
                span.set_attribute(f"{document}.score", 0.5 + number / 8)
                span.set_attribute(f"{document}.content", f"Runbook {number}: log in with {self._planter.any().text}.")
                metadata = json.dumps({"owner": self._planter.kind("email").text, "page": number})
                span.set_attribute(f"{document}.metadata", metadata)

    def _ask_model(self, question: str, turn: int):
        plant = self._planter
        arguments = json.dumps({"parcel": "NF-2026-00017", "headers": {"note": plant.kind("bearer-header").text}})
        with self._span("ChatCompletion", "LLM") as span:
            span.set_attributes(
                {
                    "llm.model_name": "gpt-5-mini",
                    "llm.provider": "openai",
                    "llm.invocation_parameters": json.dumps({"temperature": 0.2, "user": plant.kind("email").text}),
                    "llm.token_count.prompt": 812,
                    "llm.token_count.completion": 64 + turn,
                    "llm.token_count.total": 876 + turn,
                    "llm.input_messages.0.message.role": "system",
                    "llm.input_messages.0.message.content": f"You help. The maps key is {plant.any().text}.",
                    "llm.input_messages.1.message.role": "user",
                    "llm.input_messages.1.message.content": question,
                    "llm.output_messages.0.message.role": "assistant",
                    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "track_parcel",
                    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": arguments,
                    "input.mime_type": "application/json",
                    "input.value": json.dumps({"messages": [{"role": "user", "content": question}]}),
                    "output.mime_type": "application/json",
                    "output.value": json.dumps({"choices": [{"message": {"tool_calls": [{"arguments": arguments}]}}]}),
                }
            )

    def _call_tool(self, turn: int):
        plant = self._planter
        with self._span("track_parcel", "TOOL") as span:
            span.set_attributes({"tool.name": "track_parcel", "tool.parameters": json.dumps({"id": "NF-2026-00017"})})
            if turn:
                span.record_exception(ConnectionError(f"login refused for {plant.kind('mongodb-url').text}"))
                span.set_status(Status(StatusCode.ERROR, f"refused: {plant.any().text}"))
            else:
                result = {"state": "held", "env": plant.kind("env-password").text, "dump": plant.kind("pem").text}
                span.set_attributes({"output.value": json.dumps(result), "output.mime_type": "application/json"})

"""Real agent frameworks with a scripted model: what they put into spans by themselves goes through the gateway.

* Pydantic AI with its own instrumentation (GenAI semantic conventions): an agent with tools, two turns.
* The OpenAI SDK instrumented by OpenInference: a tool-calling loop, plain and streamed.

System prompt, user prompt, tool arguments, tool results, an exception and the final answer carry planted values.
"""

import json

from opentelemetry.sdk.resources import Resource

from case import Case, Said, otlp_http
from model import ScriptedModel
from plant import Planter
from sender import Sender

SERVICE = Resource.create({"service.name": "support-agent", "service.version": "1.4.0"})
LEAST_SPANS = 8


class ToolDown(RuntimeError):
    """What the second tool raises; nothing in the framework knows it."""


class Story:
    """Two turns of a support agent. The first calls a tool that answers, the second one that raises."""

    def __init__(self, planter: Planter):
        def some(*kinds):
            return " ; ".join(planter.kind(kind).text for kind in kinds)

        self.system = f"You help with parcels. Use the key {some('google-api-key')} for maps."
        self.ask = [
            f"Where is NF-2026-00017? I am {some('email')} and paid with {some('card-visa')} yesterday.",
            f"Then look at the ledger. The operator gave me this: {some('postgres-url', 'jwt')}",
        ]
        self.arguments = {"parcel": "NF-2026-00017", "headers": {"note": some("bearer-header")}}
        self.result = {"state": "held", "env": f"{some('env-password', 'aws-secret')}", "dump": some("pem")}
        self.failing_arguments = {"query": f"select 1 -- {some('slack-bot')}"}
        self.failure = f"login refused for {some('mongodb-url')} with {some('github-pat')}"
        self.answers = [
            f"It is held. I used {some('stripe-live')} to check.",
            f"Ledger is down; try {some('anthropic')} later.",
        ]
        self.script = [
            [("track_parcel", self.arguments)],
            self.answers[0],
            [("query_ledger", self.failing_arguments)],
            self.answers[1],
        ]

    def track_parcel(self):
        return self.result

    def query_ledger(self):
        raise ToolDown(self.failure)


def pydantic_ai(transport, compression, control, gateway, planter) -> Said:
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    with ScriptedModel(story.script[:3]) as model:
        agent = Agent(
            OpenAIChatModel("gpt-5-mini", provider=OpenAIProvider(base_url=model.url, api_key="unused")),
            instructions=story.system,
            name="support",
        )
        agent.instrument = InstrumentationSettings(tracer_provider=sender.traces, meter_provider=sender.metrics)

        @agent.tool_plain
        def track_parcel(parcel: str, headers: dict[str, str]) -> dict[str, str]:
            """Where a parcel is."""
            return story.track_parcel()

        @agent.tool_plain
        def query_ledger(query: str) -> str:
            """Rows of the ledger."""
            return story.query_ledger()

        history = []
        with sender.traces.get_tracer("support.app").start_as_current_span("conversation"):
            history = agent.run_sync(story.ask[0], message_history=history).all_messages()
            failed = _raises(lambda: agent.run_sync(story.ask[1], message_history=history))
    faults = model.faults + ([] if failed else ["harness: the failing tool did not fail the run"])
    return _said(sender, faults, planter, story.answers[1])


def openinference(transport, compression, control, gateway, planter) -> Said:
    from openai import OpenAI
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.openai import OpenAIInstrumentor

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    tracer = OITracer(sender.traces.get_tracer("support.app"), config=TraceConfig())
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces)
    tools = {"track_parcel": story.track_parcel, "query_ledger": story.query_ledger}
    try:
        with ScriptedModel(story.script) as model, OpenAI(base_url=model.url, api_key="unused") as client:
            messages = [{"role": "system", "content": story.system}]
            for ask, stream in zip(story.ask, (False, True)):
                messages.append({"role": "user", "content": ask})
                with tracer.start_as_current_span("turn", openinference_span_kind="agent") as span:
                    span.set_input(ask)
                    _tool_loop(client, tracer, tools, messages, stream)
                    span.set_output(messages[-1]["content"])
    finally:
        instrumentor.uninstrument()
    return _said(sender, model.faults, planter)


def _tool_loop(client, tracer, tools, messages, stream):
    while True:
        answer = _ask(client, messages, stream)
        messages.append(answer)
        if "tool_calls" not in answer:
            return
        for call in answer["tool_calls"]:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            try:
                with tracer.start_as_current_span(name, openinference_span_kind="tool") as span:
                    span.set_input(arguments)
                    result = json.dumps(tools[name]())
                    span.set_output(result)
            except ToolDown as error:
                result = f"error: {error}"
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def _ask(client, messages, stream) -> dict:
    definitions = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
        for name in ("track_parcel", "query_ledger")
    ]
    if not stream:
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=definitions)
        return answer.choices[0].message.model_dump(exclude_none=True)
    content, calls = "", {}
    for chunk in client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=definitions, stream=True):
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                calls[call.index] = call.model_dump(exclude={"index"}, exclude_none=True)
    answer = {"role": "assistant", "content": content}
    return answer | ({"tool_calls": list(calls.values())} if calls else {})


def _raises(run) -> bool:
    try:
        run()
    except ToolDown:
        return True
    return False


def _said(sender: Sender, faults: list[str], planter: Planter, unsaid: str = "") -> Said:
    """`unsaid` is text of the story the run never comes to; what is planted in it was not sent."""
    sender.finish()
    planter.planted = [each for each in planter.planted if each.text not in unsaid]
    if sender.tally.sent["traces"] < LEAST_SPANS:
        faults.append(f"harness: the framework made {sender.tally.sent['traces']} spans, {LEAST_SPANS} expected")
    return Said(None, sender.tally.sent, faults + sender.tally.faults)


CASES = [
    Case("pydantic-ai", "http/protobuf", pydantic_ai, compression="gzip"),
    Case(
        "pydantic-ai-grpc",
        "grpc",
        pydantic_ai,
        exporter=otlp_http("gzip"),
        arrives_as=("http/protobuf",),
        arrives_packed="gzip",
    ),
    Case("openai-openinference", "grpc", openinference),
]

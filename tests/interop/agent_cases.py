"""Real agent frameworks with a scripted model: what they put into spans by themselves goes through the gateway.

* Pydantic AI with its own instrumentation (GenAI semantic conventions): an agent with tools, two turns.
* The OpenAI SDK instrumented by OpenInference: a tool-calling loop, plain and streamed.
* LangChain's agent on LangGraph, instrumented by OpenInference.
* The OpenAI Agents SDK, instrumented by OpenInference.
* The same loop with its tools behind the MCP SDK, whose client and server make spans by themselves.

All play `story.py`. Frameworks that cannot live in one environment with these have files of their own.
"""

import asyncio
import json

from case import Case, Said, otlp_http
from model import ScriptedModel
from sender import Sender
from story import SERVICE, Story, ToolDown, raises, said


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
            failed = raises(lambda: agent.run_sync(story.ask[1], message_history=history))
    faults = model.faults + ([] if failed else ["harness: the failing tool did not fail the run"])
    return said(sender, faults, planter, story.answers[1])


def openinference(transport, compression, control, gateway, planter) -> Said:
    from openai import OpenAI
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.openai import OpenAIInstrumentor

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    tracer = OITracer(sender.traces.get_tracer("support.app"), config=TraceConfig())
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces)
    try:
        with ScriptedModel(story.script) as model, OpenAI(base_url=model.url, api_key="unused") as client:
            messages = [{"role": "system", "content": story.system}]
            for ask, stream in zip(story.ask, (False, True)):
                messages.append({"role": "user", "content": ask})
                with tracer.start_as_current_span("turn", openinference_span_kind="agent") as span:
                    span.set_input(ask)
                    _tool_loop(client, tracer, story.call, messages, stream)
                    span.set_output(messages[-1]["content"])
    finally:
        instrumentor.uninstrument()
    return said(sender, model.faults, planter)


def _tool_loop(client, tracer, call_tool, messages, stream):
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
                    result = call_tool(name)
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


def langgraph(transport, compression, control, gateway, planter) -> Said:
    from langchain.agents import create_agent
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.langchain import LangChainInstrumentor

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)

    @tool
    def track_parcel(parcel: str, headers: dict[str, str]) -> dict:
        """Where a parcel is."""
        return story.track_parcel()

    @tool
    def query_ledger(query: str) -> str:
        """Rows of the ledger."""
        return story.query_ledger()

    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces)
    try:
        with ScriptedModel(story.script[:3]) as model:
            chat = ChatOpenAI(model="gpt-5-mini", base_url=model.url, api_key="unused", use_responses_api=False)
            agent = create_agent(chat, [track_parcel, query_ledger], system_prompt=story.system, name="support")
            with using_attributes(session_id="session-17", user_id="user-42", metadata={"tenant": "interop"}):
                state = agent.invoke({"messages": [{"role": "user", "content": story.ask[0]}]})
                again = {"messages": [*state["messages"], {"role": "user", "content": story.ask[1]}]}
                failed = raises(lambda: agent.invoke(again))
    finally:
        instrumentor.uninstrument()
    faults = model.faults + ([] if failed else ["harness: the failing tool did not fail the run"])
    return said(sender, faults, planter, story.answers[1])


def openai_agents(transport, compression, control, gateway, planter) -> Said:
    from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool, set_trace_processors
    from openai import AsyncOpenAI
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)

    @function_tool(strict_mode=False)
    def track_parcel(parcel: str, headers: dict[str, str]) -> dict:
        """Where a parcel is."""
        return story.track_parcel()

    @function_tool(failure_error_function=lambda _context, error: f"error: {error}")
    def query_ledger(query: str) -> str:
        """Rows of the ledger."""
        return story.query_ledger()

    # The SDK's own exporter would send traces to its maker.
    set_trace_processors([])
    instrumentor = OpenAIAgentsInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces)

    async def converse():
        async with AsyncOpenAI(base_url=model.url, api_key="unused") as client:
            chat = OpenAIChatCompletionsModel(model="gpt-5-mini", openai_client=client)
            agent = Agent(name="support", instructions=story.system, tools=[track_parcel, query_ledger], model=chat)
            config = RunConfig(workflow_name="support", trace_metadata={"tenant": "interop"})
            first = await Runner.run(agent, story.ask[0], run_config=config)
            history = [*first.to_input_list(), {"role": "user", "content": story.ask[1]}]
            await Runner.run(agent, history, run_config=config)

    try:
        # The failing tool's message goes to the model, which then answers.
        with ScriptedModel(story.script) as model:
            asyncio.run(converse())
    finally:
        instrumentor.uninstrument()
        set_trace_processors([])
    return said(sender, model.faults, planter)


def mcp(transport, compression, control, gateway, planter) -> Said:
    from mcp import Client
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from openai import AsyncOpenAI
    from openinference.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry import trace

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    # The MCP SDK knows only the global provider, which can be set once in a process.
    trace.set_tracer_provider(sender.traces)
    server = MCPServer("parcels", log_level="ERROR")

    @server.tool()
    def track_parcel(parcel: str, headers: dict[str, str]) -> str:
        """Where a parcel is."""
        return story.call("track_parcel")

    @server.tool()
    def query_ledger(query: str) -> str:
        """Rows of the ledger."""
        try:
            return story.call("query_ledger")
        except ToolDown as error:
            # Of any other error the client learns only that there was one.
            raise ToolError(str(error)) from None

    async def converse():
        messages = [{"role": "system", "content": story.system}]
        async with AsyncOpenAI(base_url=model.url, api_key="unused") as client, Client(server) as tools:
            await tools.list_tools()
            for ask in story.ask:
                messages.append({"role": "user", "content": ask})
                with trace.get_tracer("support.app").start_as_current_span("invoke_agent support"):
                    await turn(client, tools, messages)

    async def turn(client, tools, messages):
        while True:
            answer = await client.chat.completions.create(model="gpt-5-mini", messages=messages)
            message = answer.choices[0].message.model_dump(exclude_none=True)
            messages.append(message)
            for call in message.get("tool_calls", []):
                function = call["function"]
                result = await tools.call_tool(function["name"], json.loads(function["arguments"]))
                text = "".join(part.text for part in result.content)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
            if "tool_calls" not in message:
                return

    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=sender.traces)
    try:
        with ScriptedModel(story.script) as model:
            asyncio.run(converse())
    finally:
        instrumentor.uninstrument()
    return said(sender, model.faults, planter)


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
    Case("langgraph-openinference", "http/protobuf", langgraph),
    Case("openai-agents-openinference", "grpc", openai_agents, compression="gzip"),
    Case("mcp", "http/protobuf", mcp),
]

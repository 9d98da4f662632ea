"""Google's Agent Development Kit with its own instrumentation: spans, and content in structured log records."""

import asyncio
import logging
import os

from case import Case, Said
from sender import Sender
from story import SERVICE, Story, raises, said


def google_adk(transport, compression, control, gateway, planter) -> Said:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    os.environ["ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS"] = "true"
    from opentelemetry import _logs, trace

    story, sender = Story(planter), Sender(transport, compression, control, gateway, SERVICE)
    # The kit knows only the global providers, which can be set once in a process: one case per run.
    trace.set_tracer_provider(sender.traces)
    _logs.set_logger_provider(sender.logs)
    from google.adk.agents import LlmAgent
    from google.adk.models.base_llm import BaseLlm
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    script = iter(story.script[:3])

    class Scripted(BaseLlm):
        """A model class of the kit that plays the story; it needs no server."""

        async def generate_content_async(self, llm_request, stream=False):
            answer = next(script)
            if isinstance(answer, str):
                parts = [types.Part(text=answer)]
            else:
                calls = [types.FunctionCall(id=f"call-{name}", name=name, args=given) for name, given in answer]
                parts = [types.Part(function_call=call) for call in calls]
            yield LlmResponse(content=types.Content(role="model", parts=parts), model_version="scripted")

    def track_parcel(parcel: str, headers: dict[str, str]) -> dict:
        """Where a parcel is."""
        return story.track_parcel()

    def query_ledger(query: str) -> dict:
        """Rows of the ledger."""
        return story.query_ledger()

    async def turn(runner, session, ask):
        message = types.Content(role="user", parts=[types.Part(text=ask)])
        async for _ in runner.run_async(user_id="user-42", session_id=session.id, new_message=message):
            pass

    async def converse():
        agent = LlmAgent(
            name="support",
            model=Scripted(model="scripted"),
            # A function, for braces in a text would be a template's.
            instruction=lambda _context: story.system,
            tools=[track_parcel, query_ledger],
        )
        runner = InMemoryRunner(agent=agent, app_name="support")
        session = await runner.session_service.create_session(app_name="support", user_id="user-42")
        for ask in story.ask:
            await turn(runner, session, ask)

    # The kit prints the failure, which is wanted here.
    logging.getLogger("google_adk").setLevel(logging.CRITICAL)
    failed = raises(lambda: asyncio.run(converse()))
    faults = [] if failed else ["harness: the failing tool did not fail the run"]
    return said(sender, faults, planter, story.answers[1])


CASES = [Case("google-adk", "http/protobuf", google_adk, compression="gzip")]

"""The story every agent plays, whatever its framework: two turns of support, a tool that answers, one that raises.

System prompt, user prompts, tool arguments, tool results, the exception and the answers carry planted values. Beside
them stands what only looks like a secret and must pass unchanged.
"""

import json

from opentelemetry.sdk.resources import Resource

from case import Said
from plant import Planter
from sender import Sender

SERVICE = Resource.create({"service.name": "support-agent", "service.version": "1.4.0"})
LEAST_SPANS = 8
# Ids, hashes, numbers and talk about secrets that hold none.
DECOYS = {
    "commit": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "order": "0b9a8f0e-5b1f-4f5e-9d53-6f1f6c9e2a77",
    "tracking": "1Z 999 AA1 01 2345 6784",
    "image": "registry.example.org/refunds@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "note": "Total tokens: 5120. The password policy asks for twelve characters; see /docs/tokens#api-keys.",
    "id": "call_Zk3pW8sQv1Lr5TnX",
}


class ToolDown(RuntimeError):
    """What the second tool raises; nothing in the framework knows it."""


class Story:
    """Two turns of a support agent. The first calls a tool that answers, the second one that raises."""

    def __init__(self, planter: Planter):
        def some(*kinds):
            return " ; ".join(planter.kind(kind).text for kind in kinds)

        self.system = f"You help with parcels. Use the key {some('google-api-key')} for maps. {DECOYS['note']}"
        self.ask = [
            f"Where is NF-2026-00017? I am {some('email')} and paid with {some('card-visa')} yesterday.",
            f"Then look at the ledger. The operator gave me this: {some('postgres-url', 'jwt')} for {DECOYS['order']}",
        ]
        self.arguments = {"parcel": "NF-2026-00017", "headers": {"note": some("bearer-header")}}
        self.result = {"state": "held", "env": f"{some('env-password', 'aws-secret')}", "dump": some("pem"), **DECOYS}
        self.failing_arguments = {"query": f"select 1 -- {some('slack-bot')}"}
        self.failure = f"login refused for {some('mongodb-url')} with {some('github-pat')}"
        self.answers = [
            f"It is held. I used {some('stripe-live')} to check commit {DECOYS['commit']}.",
            f"Ledger is down; try {some('anthropic')} later.",
        ]
        self.script = [
            [("track_parcel", self.arguments)],
            self.answers[0],
            [("query_ledger", self.failing_arguments)],
            self.answers[1],
        ]
        self.tools = {"track_parcel": self.track_parcel, "query_ledger": self.query_ledger}

    def track_parcel(self) -> dict:
        return self.result

    def query_ledger(self):
        raise ToolDown(self.failure)

    def call(self, name: str) -> str:
        """The tool's result as JSON, or raises."""
        return json.dumps(self.tools[name]())

    def outcome(self, name: str) -> str:
        """What the model is told: the tool's result, or that it failed."""
        try:
            return self.call(name)
        except ToolDown as error:
            return f"error: {error}"


def raises(run) -> bool:
    try:
        run()
    except ToolDown:
        return True
    return False


def said(sender: Sender, faults: list[str], planter: Planter, unsaid: str = "", least: int = LEAST_SPANS) -> Said:
    """`unsaid` is text of the story the run never comes to; what is planted in it was not sent."""
    sender.finish()
    forget(planter, unsaid)
    if sender.tally.sent["traces"] < least:
        faults.append(f"harness: the framework made {sender.tally.sent['traces']} spans, {least} expected")
    return Said(None, sender.tally.sent, faults + sender.tally.faults)


def forget(planter: Planter, unsaid: str):
    planter.planted = [each for each in planter.planted if each.text not in unsaid]

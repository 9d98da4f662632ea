"""The official OpenTelemetry JavaScript SDK against the gateway: every transport in; and the Vercel AI SDK.

The clients are programs for Node.js in `js/`; planted values are made here and handed to them.
"""

import json
import os
import subprocess
from pathlib import Path

from story import LEAST_SPANS, Story
import listen
from case import Case, Said, otlp_http
from certificates import certificates
from compare import SEQUENCE
from content import FILLER, FORGED, HARMLESS
from gateway import GatewayFault
from model import ScriptedModel
from plant import Planter
from sender import Endpoint

# More than the programs take; what they do not take is forgotten again.
SPARE = 48
NODE_SECONDS = 120
NODE = os.environ.get("INTEROP_NODE", "node")
PROGRAMS = Path(os.environ.get("INTEROP_JS", Path(__file__).parent / "js"))


class NodeFault(GatewayFault):
    """The program for Node.js ended with an error, or did not end; its case fails, the others go on."""


def node(program: str, question: dict) -> dict:
    """Asks one of the programs; its answer."""
    command, told = [NODE, str(PROGRAMS / program)], json.dumps(question).encode()
    settings = os.environ | question.get("settings", {})
    try:
        ended = subprocess.run(command, input=told, env=settings, capture_output=True, timeout=NODE_SECONDS)
    except subprocess.TimeoutExpired:
        raise NodeFault(f"{program}: still running after {NODE_SECONDS} s") from None
    if ended.returncode != 0:
        raise NodeFault(f"{program}: exit code {ended.returncode}: {ended.stderr.decode(errors='replace')[-800:]}")
    return json.loads(ended.stdout)


def _where(transport, compression, control, gateway) -> dict:
    def urls(each):
        grpc = f"unix://{each.unix}" if each.unix else f"{each.scheme}://127.0.0.1:{each.grpc_port}"
        return {"grpc": grpc, "http": f"{each.scheme}://127.0.0.1:{each.http_port}"}

    where = {"control": urls(control), "gateway": urls(gateway)}
    return {"transport": transport, "compression": compression, "settings": _settings(gateway), **where}


def _settings(gateway: Endpoint) -> dict[str, str]:
    """The SDK's own variables for TLS; they say nothing about endpoints in the clear."""
    settings = {"OTEL_EXPORTER_OTLP_INSECURE": "true"} if gateway.unix else {}
    if gateway.tls:
        made = certificates()
        settings["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(made.ca)
        if gateway.tls == "mutual":
            settings["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(made.client.certificate)
            settings["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(made.client.key)
    return settings


def say_everything(transport, compression, control, gateway, planter: Planter) -> Said:
    every = {each.kind: each.text for each in planter.every_kind()}
    named = {
        "first": planter.kind("github-pat").text,
        "pem": planter.kind("pem").text,
        "last": planter.kind("anthropic").text,
        "state": planter.kind("gitlab-pat").text,
        "name": planter.kind("databricks").text,
        "email": planter.kind("email").text,
        "key:password": planter.bare("key:password").text,
        "key:authorization": planter.bare("key:authorization", 32, "Bearer ").text,
        "key:x-api-key": planter.bare("key:x-api-key", 32).text,
        "key:body-password": planter.bare("key:body-password").text,
    }
    supply = {"any": [planter.any() for _ in range(SPARE)], "token": [planter.token() for _ in range(SPARE)]}
    content = {
        "every": every,
        "named": named,
        **{name: [each.text for each in planted] for name, planted in supply.items()},
        "harmless": HARMLESS,
        "forged": FORGED,
        "filler": FILLER,
        "sequence": SEQUENCE,
    }
    said = node("sdk.mjs", _where(transport, compression, control, gateway) | {"content": content})
    faults = said["faults"]
    for name, planted in supply.items():
        if said["taken"][name] > SPARE:
            faults.append(f"harness: sdk.mjs wants more than {SPARE} values of {name}")
        unused = planted[said["taken"][name] :]
        planter.planted = [each for each in planter.planted if each not in unused]
    return Said(said["created"], said["sent"], faults)


def vercel_ai(transport, compression, control, gateway, planter: Planter) -> Said:
    story = Story(planter)
    told = {name: getattr(story, name) for name in ("system", "ask", "result", "failure", "answers")}
    with ScriptedModel(story.script) as model:
        question = _where(transport, compression, control, gateway) | {"story": told, "model": model.url}
        said = node("vercel.mjs", question)
    if said["sent"]["traces"] < LEAST_SPANS:
        said["faults"].append(f"harness: the SDK made {said['sent']['traces']} spans, {LEAST_SPANS} expected")
    return Said(None, said["sent"], model.faults + said["faults"])


CASES = [
    Case("js-grpc", "grpc", say_everything),
    Case("js-grpc-gzip", "grpc", say_everything, compression="gzip"),
    Case("js-http", "http/protobuf", say_everything),
    Case("js-http-gzip", "http/protobuf", say_everything, compression="gzip"),
    Case("js-json", "http/json", say_everything),
    Case("js-json-gzip", "http/json", say_everything, compression="gzip"),
    Case("js-tls-grpc", "grpc", say_everything, listen=listen.tls),
    Case("js-tls-json", "http/json", say_everything, listen=listen.tls),
    Case("js-mtls-grpc", "grpc", say_everything, listen=listen.mutual_tls),
    Case("js-mtls-http", "http/protobuf", say_everything, listen=listen.mutual_tls, compression="gzip"),
    Case("js-unix-grpc", "grpc", say_everything, listen=listen.unix_socket),
    Case("vercel-ai", "http/protobuf", vercel_ai),
    Case(
        "vercel-ai-json",
        "http/json",
        vercel_ai,
        exporter=otlp_http("gzip"),
        arrives_as=("http/protobuf",),
        arrives_packed="gzip",
    ),
]

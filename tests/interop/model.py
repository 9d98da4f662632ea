"""A stand-in for the OpenAI chat completions API on loopback that plays a script; no model runs, nothing leaves.

A script is a list of answers; the n-th request gets the n-th. An answer is a text, or a list of tool calls
`(name, arguments)`. A request beyond the script, or to another path, is refused and kept in `faults`.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedModel:
    def __init__(self, script: list):
        self.script = script
        self.asked = 0
        self.faults: list[str] = []

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def next_answer(self):
        self.asked += 1
        return self.script[self.asked - 1] if self.asked <= len(self.script) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    model: ScriptedModel


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = self.server.model
        answer = model.next_answer() if self.path.endswith("/chat/completions") else None
        if answer is None:
            model.faults.append(f"model: no answer for request {model.asked} to {self.path}")
            return self._send(400, b'{"error": {"message": "the script is over"}}', "application/json")
        if request.get("stream"):
            return self._send(200, _events(request, model.asked, answer), "text/event-stream")
        return self._send(200, _completion(request, model.asked, answer), "application/json")

    def _send(self, status, body, content_type):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _message(number, answer):
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}, "stop"
    calls = [
        {
            "id": f"call_{number:04d}{index:02d}",
            "index": index,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(answer)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"


def _head(request, number, kind):
    return {"id": f"chatcmpl-{number:06d}", "object": kind, "created": int(time.time()), "model": request["model"]}


USAGE = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}


def _completion(request, number, answer) -> bytes:
    message, reason = _message(number, answer)
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps(_head(request, number, "chat.completion") | {"choices": [choice], "usage": USAGE}).encode()


def _events(request, number, answer) -> bytes:
    """The same answer as server-sent events, its text cut into pieces of a few characters."""
    message, reason = _message(number, answer)
    text = message.pop("content") or ""
    deltas = [message] + [{"content": text[start : start + 7]} for start in range(0, len(text), 7)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    head = _head(request, number, "chat.completion.chunk")
    events = [head | {"choices": [choice]} for choice in choices] + [head | {"choices": [], "usage": USAGE}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"

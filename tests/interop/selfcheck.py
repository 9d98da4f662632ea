"""Shows that the judge can fail: it passes what a faultless gateway would deliver and catches each fault in turn.

The telemetry of the SDK cases is sent without a gateway and masked here, by knowing what was planted. Then one thing
at a time is broken, and the judge must name it. Run by `run` before anything else; exit code 1 if a fault goes unseen.
"""

import copy
import sys

from case import TENANT, Case, Row, identity_faults, judge
from content import FORGED
from plant import Finder, Planter
from sdk_cases import say_everything
from sender import Endpoint
from sink import Received, Sink

SEED = 7


def main() -> int:
    planter = Planter(SEED)
    with Sink() as control:
        endpoint = Endpoint(control.grpc_port, control.http_port)
        with Sink() as unused:
            said = say_everything("grpc", "none", endpoint, Endpoint(unused.grpc_port, unused.http_port), planter)
    masked = [_masked(each, Finder(planted.text for planted in planter.planted)) for each in control.received]

    def faults(received: list[Received], written: dict | None = None) -> list[str]:
        row = Row("selfcheck", "")
        judge(row, planter, said, control.received, received, written or {"stderr.log": b"ready"})
        return row.faults + identity_faults(Case("selfcheck", "grpc", say_everything), received)

    failures = [f"a faultless delivery is blamed: {each}" for each in faults(masked)]
    if not any(each.startswith("survived") for each in faults(control.received)):
        failures.append("nothing survives when nothing is masked")
    for name, (breaks, expected) in BREAKS.items():
        broken = copy.deepcopy(masked)
        breaks(broken, planter)
        for each in broken:
            each.body = each.message.SerializeToString()
        if not any(expected in fault for fault in faults(broken)):
            failures.append(f"unseen: {name}")
    leaked = {"stderr.log": f"warn: cannot scan {planter.planted[0].text}".encode()}
    if not any("stderr.log" in fault for fault in faults(masked, leaked)):
        failures.append("unseen: a planted value in the log")
    for each in failures:
        print(f"selfcheck: {each}")
    verdict = "FAILED" if failures else "ok"
    print(f"selfcheck: {verdict}, {len(BREAKS) + 3} checks, {len(planter.planted)} values planted")
    return 1 if failures else 0


def _masked(request: Received, planted: Finder) -> Received:
    copied = copy.deepcopy(request)
    _mask(copied.message, planted)
    copied.body = copied.message.SerializeToString()
    return copied


def _mask(message, planted: Finder):
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for each in value if descriptor.is_repeated else [value]:
                _mask(each, planted)
        elif isinstance(value, str) and (found := planted.pattern(value)):
            setattr(message, descriptor.name, found.sub("[MASKED:rule-id]", value))
        elif isinstance(value, bytes):
            text = value.decode("utf-8", "surrogateescape")
            if found := planted.pattern(text):
                masked = found.sub("[MASKED:rule-id]", text).encode("utf-8", "surrogateescape")
                setattr(message, descriptor.name, masked)
    if "attributes" in message.DESCRIPTOR.fields_by_name:
        kept = [each for each in message.attributes if not each.key.startswith("tracegate.")]
        del message.attributes[:]
        message.attributes.extend(kept)
    if message.DESCRIPTOR.name == "Resource":
        message.attributes.add(key=TENANT).value.string_value = "interop"


def _of(received, signal):
    return next(each.message for each in received if each.signal == signal)


def _span(received, name):
    for request in received:
        if request.signal == "traces":
            for spans in request.message.resource_spans[0].scope_spans:
                for span in spans.spans:
                    if span.name == name:
                        return span
    raise LookupError(name)


def _attribute(attributes, key):
    return next(each for each in attributes if each.key == key)


def _lose_span(received, _):
    del _of(received, "traces").resource_spans[0].scope_spans[0].spans[0]


def _repeat_span(received, _):
    spans = _of(received, "traces").resource_spans[0].scope_spans[0].spans
    spans.add().CopyFrom(spans[0])


def _invent_span(received, _):
    spans = _of(received, "traces").resource_spans[0].scope_spans[0].spans
    spans.add(name="approval", trace_id=spans[0].trace_id, span_id=b"\1" * 8)


def _change_parent(received, _):
    _span(received, "step 3").parent_span_id = b"\1" * 8


def _change_time(received, _):
    _span(received, "step 3").end_time_unix_nano += 1


def _change_attribute(received, _):
    _attribute(_span(received, "step 3").attributes, "app.uuid").value.string_value = "[MASKED:generic]"


def _lose_attribute(received, _):
    del _span(received, "step 3").attributes[0]


def _change_type(received, _):
    _attribute(_span(received, "attribute types").attributes, "t.bytes.clean").value.string_value = "[MASKED:bytes]"


def _change_number(received, _):
    _attribute(_span(received, "step 3").attributes, "app.negative").value.int_value += 1


def _eat_neighbours(received, _):
    value = _attribute(_span(received, "attribute types").attributes, "t.string").value
    value.string_value = value.string_value.removeprefix("before ")


def _remove_silently(received, _):
    value = _attribute(_span(received, "attribute types").attributes, "t.whole").value
    value.string_value = ""


def _mask_in_part(received, planter):
    value = _attribute(_span(received, "attribute types").attributes, "t.string").value
    piece = next(each for each in planter.planted if each.kind == "github-pat").needles[1]
    value.string_value += piece


def _leave_in_bytes(received, planter):
    value = _attribute(_span(received, "attribute types").attributes, "t.bytes").value
    value.bytes_value += next(each for each in planter.planted if each.kind == "email").text.encode()


def _leave_escaped(received, planter):
    import json

    value = _attribute(_span(received, "attribute types").attributes, "t.json").value
    pem = next(each for each in planter.planted if each.kind == "pem")
    value.string_value += json.dumps(json.dumps(pem.text))


def _lose_log(received, _):
    del _of(received, "logs").resource_logs[0].scope_logs[0].log_records[0]


def _change_body(received, _):
    for record in _of(received, "logs").resource_logs[0].scope_logs[0].log_records:
        record.body.string_value = "changed"


def _change_point(received, _):
    metrics = _of(received, "metrics").resource_metrics[0].scope_metrics[0].metrics
    next(each for each in metrics if each.name == "agent.latency").histogram.data_points[0].sum += 1


def _lose_exemplar(received, _):
    metrics = _of(received, "metrics").resource_metrics[0].scope_metrics[0].metrics
    del next(each for each in metrics if each.name == "interop.exemplars").histogram.data_points[0].exemplars[:]


def _change_scope(received, _):
    _of(received, "traces").resource_spans[0].scope_spans[0].scope.version += "x"


def _change_resource(received, _):
    for request in received:
        for each in getattr(request.message, f"resource_{request.signal.replace('traces', 'spans')}"):
            _attribute(each.resource.attributes, "service.name").value.string_value = "other"


def _let_forgery_through(received, _):
    attributes = _span(received, "step 3").attributes
    attributes.add(key=TENANT).value.string_value = FORGED[TENANT]


def _forget_own_attribute(received, _):
    del _of(received, "logs").resource_logs[0].resource.attributes[-1]


BREAKS = {
    "a lost span": (_lose_span, "traces: 1 lost"),
    "a repeated span": (_repeat_span, "traces: 1 arrived more than once"),
    "a span nobody sent": (_invent_span, "traces: 1 never sent"),
    "another parent": (_change_parent, "parent_span_id"),
    "another time": (_change_time, "end_time_unix_nano"),
    "a harmless attribute masked": (_change_attribute, "nothing was planted there"),
    "a lost attribute": (_lose_attribute, "attributes: "),
    "another type of value": (_change_type, "bytes_value"),
    "another number": (_change_number, "int_value"),
    "text around a value eaten": (_eat_neighbours, "text around a planted value changed"),
    "a value removed without a marker": (_remove_silently, "no marker"),
    "a value masked in part": (_mask_in_part, "survived: github-pat"),
    "a value left in bytes": (_leave_in_bytes, "survived: email"),
    "a value left in escaped JSON": (_leave_escaped, "survived: pem"),
    "a lost log record": (_lose_log, "logs: 1 lost"),
    "another log body": (_change_body, "log_record.body"),
    "another point": (_change_point, "point.sum"),
    "a lost exemplar": (_lose_exemplar, "exemplars"),
    "another scope": (_change_scope, "scope.version"),
    "another resource": (_change_resource, "resource.attributes[service.name]"),
    "a forged tracegate attribute": (_let_forgery_through, "that the client set"),
    "no tracegate attribute": (_forget_own_attribute, "without tracegate.tenant"),
}


if __name__ == "__main__":
    sys.exit(main())

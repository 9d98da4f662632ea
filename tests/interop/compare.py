"""What must have arrived, given what was sent: every item once, changed only where a value was planted."""

import re
from collections import Counter
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor

from plant import Finder, Planted
from sink import Received

MARKER = re.compile(r"\[MASKED:[a-z0-9][a-z0-9._-]*\]")
OWN_ATTRIBUTES = "tracegate."
SEQUENCE = "interop.seq"

SCOPES_OF = {"traces": "resource_spans", "logs": "resource_logs", "metrics": "resource_metrics"}
ITEMS_OF = {"resource_spans": ("scope_spans", "spans"), "resource_logs": ("scope_logs", "log_records")}


@dataclass
class Item:
    """A span, a log record or a metric point, with all that encloses it."""

    signal: str
    key: object
    parts: dict


def items(received: list[Received]) -> list[Item]:
    return [item for request in received for item in _items_of(request)]


def _items_of(request: Received):
    outer = SCOPES_OF[request.signal]
    for enclosing in getattr(request.message, outer):
        parts = {"resource": enclosing.resource, "resource.schema_url": enclosing.schema_url}
        if request.signal == "metrics":
            yield from _points(enclosing, parts)
            continue
        scopes, leaves = ITEMS_OF[outer]
        for scope in getattr(enclosing, scopes):
            for leaf in getattr(scope, leaves):
                key = (leaf.trace_id, leaf.span_id) if request.signal == "traces" else _key(leaf, leaf.attributes)
                parts_here = {**parts, "scope": scope.scope, "scope.schema_url": scope.schema_url}
                yield Item(request.signal, key, {**parts_here, leaves.removesuffix("s"): leaf})


def _points(enclosing, parts):
    for scope in enclosing.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            head = type(metric)()
            head.CopyFrom(metric)
            del getattr(head, kind).data_points[:]
            for point in data.data_points:
                parts_here = {**parts, "scope": scope.scope, "scope.schema_url": scope.schema_url, "metric": head}
                yield Item("metrics", _key(point, point.attributes, metric.name), {**parts_here, "point": point})


def _key(leaf, attributes, name=""):
    """The number the driver gave the item; else what an item has besides text: times, ids, values."""
    # An event has a name, which stays, and often no time but that of its observation.
    name, time = name or getattr(leaf, "event_name", ""), leaf.time_unix_nano or leaf.observed_time_unix_nano
    for attribute in attributes:
        if attribute.key == SEQUENCE:
            return attribute.value.int_value
    values = [getattr(leaf, each) for each in ("as_int", "as_double", "sum", "count") if hasattr(leaf, each)]
    ids = getattr(leaf, "trace_id", b""), getattr(leaf, "span_id", b"")
    return (name, time, *ids, *values, len(attributes))


class Judge:
    """Compares what arrived behind the gateway with the control copy that went to the backend directly."""

    def __init__(self, planted: list[Planted]):
        self._by_text = {each.text: each for each in planted}
        self._by_needle = {needle: each for each in planted for needle in each.needles}
        self._texts = Finder(self._by_text)
        self._needles = Finder(self._by_needle)

    def survivors(self, data: bytes) -> set[Planted]:
        """The planted values of which at least one piece can be read in `data`."""
        return {self._by_needle[each] for each in self._needles.in_text(data.decode("utf-8", "surrogateescape"))}

    def differences(self, control: list[Item], arrived: list[Item]) -> list[str]:
        """Lost, added, duplicated and changed items; empty if all is as it must be."""
        wanted = {(item.signal, item.key): item for item in control}
        counts = Counter((item.signal, item.key) for item in arrived)
        found = []
        if len(wanted) != len(control):
            found.append(f"harness: {len(control) - len(wanted)} items of the control copy share their key")
        found += _by_signal("lost", [key for key in wanted if key not in counts])
        found += _by_signal("never sent", [key for key in counts if key not in wanted])
        found += _by_signal("arrived more than once", [key for key, count in counts.items() if count > 1])
        for item in arrived:
            if (item.signal, item.key) in wanted:
                expected = wanted[item.signal, item.key]
                for name in expected.parts:
                    self._message(expected.parts[name], item.parts[name], f"{item.signal}: {name}", found)
        return found

    def _message(self, expected, actual, path, found):
        if not hasattr(expected, "DESCRIPTOR"):
            return self.value(expected, actual, path, found)
        for descriptor in expected.DESCRIPTOR.fields:
            name = f"{path}.{descriptor.name}"
            left, right = getattr(expected, descriptor.name), getattr(actual, descriptor.name)
            if descriptor.is_repeated:
                self._list(left, right, name, found)
            elif descriptor.has_presence and expected.HasField(descriptor.name) != actual.HasField(descriptor.name):
                found.append(f"{name}: {_presence(expected, descriptor)} sent, {_presence(actual, descriptor)} arrived")
            elif descriptor.type != FieldDescriptor.TYPE_MESSAGE:
                self.value(left, right, name, found)
            elif expected.HasField(descriptor.name):
                self._message(left, right, name, found)

    def _list(self, expected, actual, path, found):
        if path.endswith("attributes"):
            expected = [each for each in expected if not each.key.startswith(OWN_ATTRIBUTES)]
            actual = [each for each in actual if not each.key.startswith(OWN_ATTRIBUTES)]
        if len(expected) != len(actual):
            found.append(f"{path}: {len(expected)} sent, {len(actual)} arrived")
        for index, (left, right) in enumerate(zip(expected, actual)):
            name = f"{path}[{index}]"
            if hasattr(left, "key") and self._texts.pattern(left.key) is None:
                name = f"{path}[{left.key}]"
            self._message(left, right, name, found)

    def value(self, expected, actual, path, found):
        if isinstance(expected, bytes):
            expected, actual = (each.decode("utf-8", "surrogateescape") for each in (expected, actual))
        if not isinstance(expected, str):
            # `!=` would call NaN changed.
            if repr(expected) != repr(actual):
                found.append(f"{path}: {expected} became {actual}")
            return
        planted = self._texts.pattern(expected)
        if planted is None:
            if expected != actual:
                found.append(f"{path}: {_short(expected)} became {_short(actual)}, nothing was planted there")
            return
        around = "(.*?)".join(re.escape(each) for each in planted.split(expected))
        match = re.fullmatch(around, actual, re.DOTALL)
        sent = planted.findall(expected)
        kinds = ", ".join(self._kind(each) for each in sent)
        if match is None or not all(_is_part_masked(*pair) for pair in zip(sent, match.groups())):
            found.append(
                f"{path}: text around a planted value changed ({kinds}): "
                f"{self.hidden(expected)} became {self.hidden(actual)}"
            )
        elif not all(MARKER.search(each) for each in match.groups()):
            found.append(f"{path}: no marker in the place of a planted value ({kinds}): {self.hidden(actual)}")

    def _kind(self, spelling: str) -> str:
        return self._by_text[self._texts.source(spelling)].kind

    def hidden(self, text: str) -> str:
        """`text` for a report: planted values by their kind only, long runs cut."""
        if whole := self._texts.pattern(text):
            text = whole.sub(lambda match: f"<{self._kind(match.group())}>", text)
        if pieces := self._needles.pattern(text):
            text = pieces.sub("<piece>", text)
        return _short(text)


def _by_signal(what: str, keys: list) -> list[str]:
    """One line per signal: how many, and the first of them."""
    found = {}
    for signal, key in keys:
        found.setdefault(signal, []).append(key)
    return [f"{signal}: {len(keys)} {what}, first {_show(keys[0])}" for signal, keys in found.items()]


def _is_part_masked(sent: str, arrived: str) -> bool:
    """`arrived` is `sent` with markers, and nothing else, in the place of some of it."""
    first, *middle, last = (*MARKER.split(arrived), "") if MARKER.search(arrived) is None else MARKER.split(arrived)
    if not (sent.startswith(first) and sent.endswith(last)):
        return False
    position = len(first)
    for piece in middle:
        position = sent.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return position <= len(sent) - len(last)


def _presence(message, descriptor) -> str:
    oneof = descriptor.containing_oneof
    if message.HasField(descriptor.name):
        return "set"
    return f"unset ({message.WhichOneof(oneof.name)} instead)" if oneof else "unset"


def _show(key) -> str:
    if isinstance(key, tuple):
        return "/".join(each.hex() if isinstance(each, bytes) else str(each) for each in key)
    return f"{SEQUENCE}={key}"


def _short(text: str) -> str:
    shown = text if len(text) <= 160 else f"{text[:100]} … {text[-50:]}"
    return repr(shown)

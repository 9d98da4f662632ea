"""Shows that the comparisons with the Collector and with the backends can fail: each is given one fault at a time.

Run by `run` before the cases; exit code 1 if a fault goes unseen or a faultless pair is blamed.
"""

import contextlib
import io
import sys

import backends_phoenix
import collector_configuration
import collector_errors
import collector_metrics
from collector_errors import Answer, HttpRequest
from compare import Judge
from plant import Planter

PAGE = """# TYPE otelcol_receiver_accepted_spans counter
otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc"} 7
# TYPE otelcol_exporter_queue_size gauge
otelcol_exporter_queue_size{data_type="traces",exporter="otlp_grpc"} 0
"""
RULES = {"required": ["otelcol_exporter_queue_size"], "items": "otelcol_receiver_accepted_spans", "exception": []}
SAID = {"says": ["queue_size"], "at": "exporters::otlp_grpc"}


def metrics(change, exception=()):
    rules = RULES | {"exception": list(exception)}
    with contextlib.redirect_stdout(io.StringIO()):
        return collector_metrics.compare(PAGE, change(PAGE), rules, set())[1]


def errors(left: str, right: str, stated: dict):
    answers = [{"a": Answer(each, "text/plain", "")} for each in (left, right)]
    with contextlib.redirect_stdout(io.StringIO()):
        return collector_errors.compare([HttpRequest("a")], *answers, dict(stated))


def configuration(code: int, text: str):
    return collector_configuration._faults("tracegate", SAID, code, text)


def phoenix(change):
    planter = Planter(7)
    secret, key = planter.kind("github-pat"), planter.kind("npm")
    attributes = {"a": "clean", "b": f"before {secret.text} after", "k": {key.text: 7}, "list": [1, 2]}
    masked = {"a": "clean", "b": "before [MASKED:github-pat] after", "k": {"[MASKED:npm-token]": 7}, "list": [1, 2]}
    direct = {"s": {"id": "1", "name": "span", "attributes": attributes}}
    through = {"s": {"id": "2", "name": "span", "attributes": change(masked)}}
    return backends_phoenix.Phoenix.differences(None, Judge(planter.planted), direct, through)


def fewer(page: str) -> str:
    return page.replace(',transport="grpc"', "")


EXCEPTED = {"name": "otelcol_nosuch.*", "reason": "a test"}
FEWER = {"name": "otelcol_receiver_accepted_spans.*", "fewer_labels": True, "reason": "a test"}
RIGHT = "Error: exporters::otlp_grpc::sending_queue: `queue_size` must be positive"
STATED = {"a": {"requests": ["a"], "collector": "400 .*", "tracegate": "413 .*", "reason": "the specification"}}
# Name: (what is found, whether something must be).
CHECKS = {
    "equal pages": (metrics(lambda page: page), False),
    "another value of items": (metrics(lambda page: page.replace("} 7", "} 8")), True),
    "another value of a gauge": (metrics(lambda page: page.replace("} 0", "} 3")), False),
    "another label": (metrics(lambda page: page.replace("transport", "protocol")), True),
    "another label value": (metrics(lambda page: page.replace('"traces"', '"spans"')), True),
    "another type": (metrics(lambda page: page.replace("size gauge", "size counter")), True),
    "an unknown name": (metrics(lambda page: page + "otelcol_nosuch 1\n"), True),
    "an excepted name": (metrics(lambda page: page + "otelcol_nosuch 1\n", [EXCEPTED]), False),
    "a name excepted at zero": (metrics(lambda page: page + "otelcol_nosuch 1\n", [EXCEPTED | {"zero": True}]), True),
    "fewer labels, excepted": (metrics(fewer, [FEWER]), False),
    "fewer labels, another value": (metrics(lambda page: fewer(page).replace("} 7", "} 8"), [FEWER]), True),
    "a required name missing": (metrics(lambda page: page.split("# TYPE otelcol_exporter")[0]), True),
    "equal answers": (errors("400", "400", {}), False),
    "answers that differ": (errors("400", "413", {}), True),
    "answers that differ as stated": (errors("400", "413", STATED), False),
    "a deviation that is gone": (errors("413", "413", STATED), True),
    "another deviation than stated": (errors("400", "500", STATED), True),
    "another answer of the Collector than stated": (errors("500", "413", STATED), True),
    "a deviation of no request": (errors("400", "400", {"b": STATED["a"]}), True),
    "a configuration refused": (configuration(1, RIGHT), False),
    "a configuration taken": (configuration(0, RIGHT), True),
    "a panic's exit code": (configuration(101, RIGHT), True),
    "another text": (configuration(1, "Error: exporters::otlp_grpc: no"), True),
    "another place": (configuration(1, RIGHT.replace("exporters", "receivers")), True),
    "two lines": (configuration(1, f"{RIGHT}\nand more"), True),
    "a run in Phoenix, masked": (phoenix(lambda masked: masked), False),
    "a lost attribute in Phoenix": (phoenix(lambda masked: {k: v for k, v in masked.items() if k != "a"}), True),
    "another attribute in Phoenix": (phoenix(lambda masked: masked | {"a": "changed"}), True),
    "an attribute more in Phoenix": (phoenix(lambda masked: masked | {"c": 1}), True),
    "another type in Phoenix": (phoenix(lambda masked: masked | {"list": ["1", 2]}), True),
    "a planted value in Phoenix": (phoenix(lambda masked: masked | {"b": "before after"}), True),
    "a masked key whose value changed": (phoenix(lambda masked: masked | {"k": {"[MASKED:npm-token]": 8}}), True),
    "tracegate's own attribute": (phoenix(lambda masked: masked | {"tracegate": {"tenant": "x"}}), False),
}


def main() -> int:
    wrong = [name for name, (found, expected) in CHECKS.items() if bool(found) != expected]
    for name in wrong:
        print(f"selfcheck: {'unseen' if CHECKS[name][1] else 'blamed'}: {name}: {CHECKS[name][0]}")
    print(f"selfcheck: {'FAILED' if wrong else 'ok'}, {len(CHECKS)} checks of the comparisons side by side")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

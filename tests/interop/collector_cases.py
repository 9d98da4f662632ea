"""A real OpenTelemetry Collector in front of tracegate, behind it and in its place."""

import collector_configuration
import collector_dropin
import collector_errors
import collector_load
import collector_metrics
from case import Case, otlp_grpc, otlp_http
from collector import Check, behind, between, in_front
from sdk_cases import say_everything

GRPC_COMPRESSIONS = ("none", "gzip", "zstd", "snappy")
HTTP_COMPRESSIONS = ("none", "gzip", "zstd", "snappy", "x-snappy-framed", "zlib", "deflate", "lz4")


def links():
    """Every way in which one of the two can send to the other."""
    for compression in GRPC_COMPRESSIONS:
        yield f"grpc-{compression}", otlp_grpc(compression)
    for compression in HTTP_COMPRESSIONS:
        yield f"http-{compression}", otlp_http(compression)
    yield "json-gzip", otlp_http("gzip", "json")


CASES = [
    *(Case(f"collector-{name}", "grpc", say_everything, chain=in_front(link)) for name, link in links()),
    *(Case(f"to-collector-{name}", "grpc", say_everything, chain=behind(link)) for name, link in links()),
    Case(
        "between-collectors",
        "http/json",
        say_everything,
        compression="gzip",
        exporter=otlp_http("gzip"),
        arrives_as=("http/protobuf",),
        arrives_packed="gzip",
        chain=between(otlp_grpc("zstd"), otlp_grpc("snappy")),
    ),
    Check("collector-drop-in", "one file, both", collector_dropin.judge),
    Check("collector-metrics", "one file, both", collector_metrics.judge),
    Check("collector-errors", "the same requests", collector_errors.judge),
    Check("collector-configuration", "wrong files", collector_configuration.judge),
    Check("collector-load", "grpc", collector_load.judge),
]

"""How the gateway listens, other than in the clear on two ports: TLS, mutual TLS, a unix socket.

Each function gets the protocols of the OTLP receiver as configured so far and returns them changed, with what clients
must know.
"""

from pathlib import Path

from certificates import certificates


def tls(_directory: Path, protocols: dict) -> tuple[dict, dict]:
    server = certificates().server
    return _with_tls(protocols, {"cert_file": str(server.certificate), "key_file": str(server.key)}), {"tls": "server"}


def mutual_tls(directory: Path, protocols: dict) -> tuple[dict, dict]:
    """Clients must show a certificate."""
    protocols, _ = tls(directory, protocols)
    return _with_tls(protocols, {"client_ca_file": str(certificates().ca)}), {"tls": "mutual"}


def unix_socket(directory: Path, protocols: dict) -> tuple[dict, dict]:
    """gRPC on a unix socket beside HTTP on its port: no SDK speaks HTTP over one."""
    path = directory / "otlp.sock"
    return protocols | {"grpc": {"endpoint": str(path), "transport": "unix"}}, {"unix": path}


def _with_tls(protocols: dict, settings: dict) -> dict:
    return {name: each | {"tls": each.get("tls", {}) | settings} for name, each in protocols.items()}

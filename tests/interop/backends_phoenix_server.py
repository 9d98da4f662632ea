"""Runs Arize Phoenix with its gRPC port on loopback: left alone it binds that to every address and has no setting.

Its HTTP address, ports and directory come from the environment, as Phoenix reads them.
"""

import sys

from grpc.aio import _server

bind = _server.Server.add_insecure_port


def bind_loopback(server, address: str) -> int:
    return bind(server, address.replace("[::]", "127.0.0.1"))


_server.Server.add_insecure_port = bind_loopback

from phoenix.server.main import main  # noqa: E402

sys.argv = ["phoenix", "serve"]
main()

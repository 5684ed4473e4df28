"""What a worker of `multiprocessing` runs. It imports nothing before it must."""

import importlib
from multiprocessing.connection import Connection


def serve(connection: Connection, module: str) -> None:
    """Import the handler's module and answer calls until there are no more."""
    handler = importlib.import_module(module)
    while (n := connection.recv()) is not None:
        connection.send(handler.total(n))

"""A free TCP port that stays the same."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from .private import read_private, write_private

HOST = "127.0.0.1"

# Below the ports the kernel gives to outgoing connections: one of those could be taken by a client, even by one that
# is just trying to reach the server, while the server restarts.
RANGE = range(20_000, 32_000)


def keep_port(file: Path) -> int:
    """The port written in `file`; a new one, written there, if there is none or if somebody else uses it.

    Raises:
        OSError: no port is free.
    """
    written = read_private(file)
    kept = [int(written)] if written.isdecimal() else []
    for port in (*kept, *random.sample(RANGE, 100)):
        if is_free(port):
            write_private(file, str(port))
            return port
    raise OSError(f"no free port found on {HOST} from {RANGE.start} to {RANGE.stop - 1}")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

"""A proxy between a worker and a server: a network that a test can cut, and a server that can be down without being stopped."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a port of its own and passes everything on, until it is cut. A context manager.

    Args:
        host: the server's; ``port`` likewise.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._passing = threading.Event()
        self._passing.set()
        self.port = 0
        self.restore()

    def restore(self) -> None:
        """Be a good network (again), on the same port as ever."""
        self._passing.set()
        if self._listener is not None:
            return
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """Break every connection; new ones are taken."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for one in pairs:
            _close(one)

    def hang(self) -> None:
        """Keep every connection open, take new ones, and pass nothing on."""
        self._passing.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._passing.wait()
                target.sendall(data)
        for one in (source, target):
            _close(one)
        with self._lock:
            self._pairs -= {source, target}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._passing.set()


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()

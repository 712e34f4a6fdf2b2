"""Joins standard input and output with a TCP port of this machine: what ssh is in real life."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from threading import Thread


def main(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        Thread(target=_send, args=(peer,), daemon=True).start()
        with suppress(BrokenPipeError):  # nobody listens any more: as ssh, we end
            while data := peer.recv(1 << 16):
                os.write(1, data)


def _send(peer: socket.socket) -> None:
    while data := os.read(0, 1 << 16):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(int(sys.argv[1]))

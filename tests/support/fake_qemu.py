"""A QEMU that is none: it greets, and then does one thing wrong.

Run as `fake_qemu.py MODE OPTIONS...`; its sockets are the descriptors that the options name. The
counterpart is `replay.targets.qtest`.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 2}, "package": "mine"}}}


def opened(options, name):
    number = re.search(rf"id={name},fd=(\d+)", options)[1]
    return socket.socket(fileno=int(number))


def main(mode, *options):
    words = " ".join(options)
    if mode == "refuses":
        sys.exit("qemu: Property 'virt-9.1-machine.its' not found")
    test, monitor = opened(words, "itstrace-qtest"), opened(words, "itstrace-qmp")
    if mode == "mute":
        time.sleep(60)
    greeting = {
        "no-json": b"hello\n", "no-message": b"[1]\n", "no-greeting": b"{}\n",
        "deep": b"[" * 100_000 + b"\n",
    }.get(mode, json.dumps(GREETING).encode() + b"\n")  # fmt: skip
    monitor.sendall(greeting)
    monitor.recv(4096)
    monitor.sendall(
        b'{"error": {"desc": "no"}}\n' if mode == "refuses-qmp" else b'{"return": {}}\n'
    )
    if mode == "deaf":
        time.sleep(60)
    asked = b""
    while data := test.recv(65536):
        asked += data
        *lines, asked = asked.split(b"\n")
        for _ in lines:
            answer(mode, test)


def answer(mode, test):
    if mode == "garbage":
        test.sendall(b"\xff\xfe what?\n")
    elif mode == "fails":
        test.sendall(b"FAIL Unknown command\n")
    elif mode == "too-many":
        test.sendall(b"OK 0x1\n" * 200)
    elif mode == "endless":
        while True:
            test.sendall(b"OK " + b"0" * 65536)
    elif mode == "dies":
        sys.stderr.write("qemu: assertion failed\n")
        sys.exit(3)
    elif mode == "no-number":
        test.sendall(b"OK what\n")
    else:
        test.sendall(b"IRQ raise 1\nOK 0x2a\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

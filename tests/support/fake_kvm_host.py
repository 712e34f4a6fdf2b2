"""A KVM host that is none: it speaks the protocol of kvm_host/host.c, and does one thing wrong.

`fatal` dies of one value, `outlive` oopses at it and serves again when it is told to. Run as `python fake_kvm_host.py MODE MEMORY`; the modes are the functions below. The counterpart is
`replay.targets.kvm_wire`.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
import zlib
from pathlib import Path

AREA, REQUESTS, ANSWERS, SHARED = 4 << 20, 4096, 4096 + (4 << 20), 16 << 20
MAGIC = 0x3165727473746931
NEW, SET, HAS = 1, 3, 18
OOPS = """\
[    5.1] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010
[    5.2] Internal error: Oops: 0000000096000005 [#1] SMP
[    5.3] pc : vgic_its_save_tables_v0+0x2c0/0x4a8
[    5.4] Kernel panic - not syncing: Oops: Fatal exception
"""
OUTLIVED = OOPS.rpartition("\n[")[0] + "\n[    5.4] ---[ end trace 0000000000000000 ]---\n"
FATAL = 0xDEAD  # the value that is
WARNING = (
    "[    5.1] WARNING: CPU: 0 PID: 1 at arch/arm64/kvm/vgic/vgic.c:99 vgic_put_irq+0x1c/0x20\n"
)


class Host:
    def __init__(self, mode, path):
        self.mode = mode
        with Path(path).open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), SHARED)

    def word(self, at):
        return struct.unpack_from("@Q", self.memory, 8 * at)[0]

    def put(self, at, value):
        struct.pack_into("@Q", self.memory, 8 * at, value)

    def serve(self):
        if self.mode == "silent":
            time.sleep(60)
        if self.mode == "no-kvm":
            sys.exit("itstrace: no /dev/kvm: this kernel has no KVM, or its processor no EL2")
        self.put(0, MAGIC)
        answered = 0
        while True:
            if self.word(1) != answered + 1:
                time.sleep(0.001)
                continue
            answered += 1
            if self.answer():
                self.put(2, answered)
            else:
                answered = self.born_again()

    def answer(self):
        data = bytes(self.memory[REQUESTS : REQUESTS + self.word(4)])
        assert zlib.crc32(data) == self.word(5)
        answers, at, done = [], 0, 0
        while at < len(data):
            op, _, _, _, _, y, z = struct.unpack_from("<IBBHQQQ", data, at)
            if op == SET and y == FATAL and not self.outlives_it():
                return False
            at += 32 + ((z + 7 & ~7) if op in (1, 8) else 0)
            answers.append(struct.pack("<QiI", 0, self.error(op), 0))
            done += 1
            self.put(3, done)
        out = self.spoiled(answers)
        self.memory[ANSWERS : ANSWERS + len(out)] = out
        self.put(6, len(out))
        self.put(7, zlib.crc32(out) ^ (self.mode == "garbage" and done > 6))
        return True

    def outlives_it(self):
        """Die of it, or oops: False then."""
        if self.mode == "fatal":
            sys.stdout.write(OOPS)
            sys.exit(0)
        if self.mode != "outlive":
            return True
        sys.stdout.write(OUTLIVED)
        sys.stdout.flush()
        return False

    def born_again(self):
        lives = self.word(8)
        while self.word(8) == lives:
            time.sleep(0.001)
        self.put(0, MAGIC)
        return self.word(2)

    def spoiled(self, answers):
        more = len(answers) > 6  # the VM is made before
        if self.mode == "short" and more:
            answers = answers[:-1]
        if self.mode == "long" and more:
            answers = [*answers, answers[0]]
        return b"".join(answers)

    def error(self, op):
        if op == NEW and self.mode == "no-its":
            return -19
        if op == HAS and self.mode == "lacks":
            return -6
        if op == SET:
            self.met()
        return 0

    def met(self):
        if self.mode == "hang":
            time.sleep(60)
        if self.mode == "die":
            sys.exit(3)
        if self.mode == "oops":
            sys.stdout.write(OOPS)
            sys.exit(0)
        if self.mode == "warn":
            sys.stdout.write(WARNING)
            sys.stdout.flush()


if __name__ == "__main__":
    Host(*sys.argv[1:]).serve()

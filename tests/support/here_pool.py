"""A pool that carries tasks out in this very process, as slowly and as unreliably as a test wants."""

from __future__ import annotations

from collections import deque

from replay import tasks
from replay.pools import Lost


class Here:
    """`loses` are the numbers of tasks (from 1) whose process is lost."""

    def __init__(self, *, width=2, shares_files=True, loses=(), often=1):
        self.width, self.shares_files = width, shares_files
        self.loses, self.often = set(loses), often
        self.asked = []
        self._done = deque()

    def ask(self, task):
        self.asked.append(task)
        number = len(self.asked)
        lost = Lost("signal 9", self.often) if number in self.loses else None
        self._done.appendleft((number, lost or tasks.answer(task)))  # the last one comes first
        return number

    def answer(self):
        return self._done.popleft()

    def close(self):
        self._done.clear()

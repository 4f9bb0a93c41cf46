"""A rank whose worker and whose other ranks are played by the test."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from dvm_mpi.control.messages import (
    AsleepChanged,
    ClockAsked,
    Message,
)
from dvm_mpi.control.rank import Rank
from dvm_mpi.dsm.frames import FramePool
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.hot_pages import HotPages
from dvm_mpi.dsm.messages import (
    RUN,
    TOKEN,
    ApplyRequested,
    LookupRequested,
)
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT
from tests.control.network import Network

NONE = np.zeros(0, np.int64)
NO_BYTES = np.zeros(0, np.uint8)
NO_ARENA = np.zeros((4, 0), np.uint8)
PAGE = DATA_START >> PAGE_SHIFT
FRAMES = 4


class Computing:
    """A worker that always has something to execute."""

    number = 1
    #: What it executes, as far as the rank can tell one from the next.
    batch: object = None
    is_runnable = True
    is_held_up = False
    waits_for = "its turn"

    def __init__(self) -> None:
        self.hot_pages = HotPages()
        self.slices: list[int] = []
        self.heard: list[Message] = []

    def handle(self, event: Message) -> tuple[Any, ...]:
        self.heard.append(event)
        return ((("coordinator", 0), AsleepChanged(1, 1)), (("home", 2), lookup(1)))

    def poll_plane(self) -> tuple[Any, ...]:
        return ()

    def wake(self, now_us: int) -> list[Any]:
        return []

    def run_slice(self, fuel: int, now_us: int) -> tuple[tuple[Any, ...], int]:
        self.slices.append(fuel)
        return (), fuel


class Memory:
    """Counts how often the windows are made consistent."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self) -> None:
        self.syncs += 1


class Resting:
    """A share of which nothing is left, or something again."""

    def __init__(self) -> None:
        self.rest_us = 1_000
        self.told: list[bool] = []

    def rests_us(self, now_us: int, used_us: int) -> int:
        self.told.append(now_us > used_us >= 0)
        return self.rest_us

    def worked(self) -> None:
        self.told.append(False)


class Ranks:
    """Rank 1 of three; the others are played by the test."""

    def __init__(self, worker: Computing | None = None, **options: Any) -> None:
        self.network = Network(3)
        pool = FramePool(np.zeros((FRAMES, PAGE_BYTES), np.uint8))
        # One home only, so that all pages are its own.
        home = Home(0, Geometry(1), pool, np.zeros((3, PAGE_BYTES), np.uint8))
        self.written: list[tuple[int, str]] = []
        self.rank = Rank(
            self.network.transports[1],  # type: ignore[arg-type]
            home,
            self.write,
            **{"slice_fuel": lambda: 7, **options},
        )
        self.worker = worker
        if worker is not None:
            self.rank.add_worker(worker)  # type: ignore[arg-type]

    def write(self, visible: int, places: str) -> Generator[bool, None, str]:
        self.written.append((visible, places))
        yield True
        return "figures"

    def say(self, source: int, message: Message) -> None:
        self.network.transports[source].send(1, message)
        self.network.transports[source].flush()

    def turn(self) -> bool:
        return self.rank.turn()

    def heard(self, rank: int) -> list[Message]:
        """Return and forget what rank 1 has said to a rank, beside questions for the time."""
        queue = self.network.queues[1, rank]
        messages: list[Message] = [m for m in queue if not isinstance(m, ClockAsked)]
        queue.clear()
        return messages


def lookup(worker: int) -> LookupRequested:
    return LookupRequested(worker, 5, 1, np.array([PAGE]), NONE)


def store(epoch: int, page_count: int) -> ApplyRequested:
    """Return an epoch that stores a byte into each of some pages."""
    runs = np.zeros(page_count, RUN)
    runs["start"] = DATA_START + PAGE_BYTES * np.arange(page_count)
    runs["length"] = 1
    token = np.zeros(1, TOKEN)
    token["run_count"] = page_count
    return ApplyRequested(epoch, 0, NONE, token, runs, np.ones(page_count, np.uint8))

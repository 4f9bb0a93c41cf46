"""The meters of a run without a launcher: its one process counts as one rank."""

from __future__ import annotations

import platform
import time
from typing import Final

from dvm_mpi.config import (
    HOT_PAGES_KEPT,
    LONE_SLICE_FUEL_MAX,
    LONE_SLICE_US,
    LONG_SLICE_FUEL,
)
from dvm_mpi.control.driver import LocalMachine
from dvm_mpi.control.metering import Activity, Meter, RankMeters
from dvm_mpi.control.slices import SliceLength
from dvm_mpi.job.parts import resident_bytes
from dvm_mpi.layout import PAGE_BYTES

_NS_PER_US: Final = 1_000


def _now_us() -> int:
    return time.monotonic_ns() // _NS_PER_US


def _used_us() -> int:
    return time.process_time_ns() // _NS_PER_US


class LocalMeters:
    """Gives the time of this process to activities; `meters` has the sums."""

    def __init__(self) -> None:
        self.meters = RankMeters(1)
        self._meter = Meter(_now_us())
        #: Slices beside which nothing can happen; and when one has begun, in processor time.
        self._lone = SliceLength(LONE_SLICE_US, LONG_SLICE_FUEL, LONE_SLICE_FUEL_MAX)
        self._lone_since_us: int | None = None

    @property
    def lone_fuel(self) -> int:
        """How many instructions such a slice has, which begins now."""
        self._lone_since_us = _used_us()
        return self._lone.fuel

    def did(self, activity: Activity, instructions: int = 0) -> None:
        """Note what this process did since the last call."""
        now_us = _now_us()
        self._meter.mark(activity, now_us)
        self._meter.executed(instructions)
        self._meter.end_turn(now_us, None)
        if self._lone_since_us is not None:
            self._lone.took(self._lone.fuel, instructions, _used_us() - self._lone_since_us)
            self._lone_since_us = None

    def look(self, machine: LocalMachine) -> None:
        """End a span if it is time; cheap to call often."""
        if self._meter.is_span_over:
            self._end_span(machine)
            if self._meter.is_due:
                self.settle(machine)

    def settle(self, machine: LocalMachine) -> None:
        """Add up all that was measured so far."""
        self._end_span(machine)
        self.meters.add(0, platform.node(), self._meter.take())
        hot = [worker.hot_pages for worker in machine.workers]
        hot += [home.hot_pages for home in machine.homes]
        for pages in hot:
            machine.scheduler.state.hot_pages.add(pages.take(HOT_PAGES_KEPT))

    def _end_span(self, machine: LocalMachine) -> None:
        frames = sum(home.pool.in_use for home in machine.homes)
        staged = sum(home.staged_bytes for home in machine.homes)
        self._meter.end_span(resident_bytes(), frames * PAGE_BYTES, staged)

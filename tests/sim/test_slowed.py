"""A rank that becomes slow: work moves to others, and pages that are there are not sent again."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import closing
from typing import Final

from bench.launch import ROOT
from dvm_mpi.config import SLICE_FUEL
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.control.messages import BatchReturned, Dispatched, Message
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.messages import NO_FRAME, LookupAnswered, LookupRequested
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.sim.faults import FaultPlan
from dvm_mpi.sim.machine import SimulatedMachine, Timing
from dvm_mpi.sim.simulation import ENGINE_SETTINGS

RANKS: Final = 4
PARTS: Final = 32
WAVES: Final = 12
#: The rank that becomes slow, how much so, and with which wave.
SLOW: Final = 3
SLOWNESS: Final = 8.0
SLOW_FROM: Final = 4
#: Pages of points of a part; some four parts are a batch, so a wave is more than ranks hold.
PART_PAGES: Final = 4
DEFINES: Final = {
    "N": "16384", "DIMS": "4", "K": "64", "PARTS": str(PARTS), "ITERATIONS": str(WAVES),
    "LABELS": "0",
}  # fmt: skip


class Watching(Silent):
    """Counts which worker gets how many parts of each wave, and which points are sent to whom."""

    def __init__(self, image: Image) -> None:
        points = image.arrays["points"]
        end = points.address + points.byte_count
        self._points = range(points.address >> PAGE_SHIFT, end >> PAGE_SHIFT)
        self._entry = image.symbols["part"]
        #: Versions that workers had of pages, by worker and ticket.
        self._held: dict[tuple[int, int], dict[int, int]] = {}
        #: The wave of each part, by attempt; of those that were given back there is another.
        self._waves: dict[int, int] = {}
        #: Parts that workers got, by wave.
        self.parts: defaultdict[int, Counter[int]] = defaultdict(Counter)
        #: Pages of points that came from another rank, as `(worker, page)`, by wave.
        self.sent: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    @property
    def wave(self) -> int:
        """The wave under way, from 0."""
        return max(len(self._waves) - 1, 0) // PARTS

    def turned(self, driver: LocalMachine) -> None:
        """Slow a rank down when it is time."""
        assert isinstance(driver, SimulatedMachine)
        if self.wave >= SLOW_FROM:
            driver._ranks[SLOW].slowness = SLOWNESS

    def delivered(self, target: Part, message: Message) -> None:
        """Count what goes from rank to rank."""
        number = target[1]
        if isinstance(message, Dispatched):
            for attempt in message.numbers[message.attempts["entry"] == self._entry].tolist():
                self._waves[attempt] = len(self._waves) // PARTS
                self.parts[self._waves[attempt]][number] += 1
        elif isinstance(message, BatchReturned):
            for attempt in message.numbers.tolist():
                if attempt in self._waves:
                    self.parts[self._waves.pop(attempt)][message.worker] -= 1
        elif isinstance(message, LookupRequested) and number != message.worker:
            held = dict(zip(message.pages.tolist(), message.held.tolist(), strict=True))
            self._held[message.worker, message.ticket] = held
        elif isinstance(message, LookupAnswered) and number != message.home:
            held = self._held.pop((number, message.ticket))
            columns = (message.pages, message.frames, message.versions)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            pages = [p for p, frame, epoch in rows if frame != NO_FRAME and epoch != held[p]]
            assert message.content.size == len(pages) * PAGE_BYTES
            self.sent[self.wave] += [(number, page) for page in pages if page in self._points]


def run() -> Watching:
    """Run k-means to its end."""
    image = assemble_file(ROOT / "jobs/kmeans/kmeans.dasm", DEFINES)
    watching = Watching(image)
    settings = MachineSettings(
        workers=RANKS, homes=RANKS, plane="message", placement="data", recall_fuel_min=SLICE_FUEL
    )
    machine = SimulatedMachine(
        image,
        settings,
        Timing(1, "exponential", range(RANKS), draws_fuel=False),
        FaultPlan((1.0,) * RANKS, (), None, None, None),
        lambda: InterpEngine(ENGINE_SETTINGS),
        observer=watching,
    )
    with closing(machine):
        assert machine.run().failure is None
    return watching


def test_work_leaves_a_rank_that_became_slow_and_pages_are_sent_once() -> None:
    watching = run()
    for wave in range(SLOW_FROM):
        assert sum(watching.parts[wave].values()) == PARTS
        assert watching.parts[wave][SLOW] == PARTS // RANKS, "as fast as the others"
        assert wave == 0 or not watching.sent[wave], "each rank has the points of its parts"
    slow = range(SLOW_FROM, WAVES)
    moved = sum(PARTS // RANKS - watching.parts[wave][SLOW] for wave in slow)
    assert moved > PARTS // RANKS, "others have taken more than one wave's share"
    sent = [pair for wave in range(SLOW_FROM, WAVES) for pair in watching.sent[wave]]
    assert sent, "some had to be sent"
    every = [pair for pairs in watching.sent.values() for pair in pairs]
    assert len(set(every)) == len(every), "a page was sent again to a rank that had it"
    assert len(sent) < moved * PART_PAGES / 2, "who took a part had most often had it before"

"""A worker between an engine that only keeps pages and homes that only tests speak for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dvm_mpi.config import DETOUR_BYTES_MIN
from dvm_mpi.control.messages import (
    AsleepChanged,
    Dispatched,
    Finished,
    LeaseGranted,
    LeaseRequested,
)
from dvm_mpi.control.worker import Worker
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.message_plane import MessagePlane
from dvm_mpi.dsm.messages import (
    LOCATED,
    NO_FRAME,
    ArenaReleased,
    LookupAnswered,
    LookupRequested,
    Staged,
)
from dvm_mpi.dsm.snapshot import Content
from dvm_mpi.engine.interface import (
    ATTEMPT,
    CHILD,
    GRANT,
    LEASES,
    OUTCOME,
    RUN,
    End,
    Exit,
    LeaseKind,
    OutcomeBatch,
    Reason,
    gathered,
)
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT, RANGE

FIRST = DATA_START >> PAGE_SHIFT
SNAPSHOT = 17
SLICE = 64


class Shelf:
    """An engine that keeps some pages and stops as it is told."""

    def __init__(self, pages_max: int = 99) -> None:
        #: Page -> (version, first byte), the longest held first.
        self.held: dict[int, tuple[int, int]] = {}
        self.pages_max = pages_max
        self.stops = [Exit(Reason.BATCH_DONE, 0, 10)]
        self.ended: list[OutcomeBatch] = []
        self.parked = 0
        #: What the worker calls the attempts that have begun and not ended.
        self.names: list[int] = []
        self.unparked: list[int] = []
        self.granted: list[tuple[int, int]] = []

    def begin(self, batch: Any) -> None:
        self.names += batch.attempts["runner"].tolist()

    def run(self, fuel: int) -> Exit:
        return self.stops.pop(0)

    def take_outcomes(self) -> OutcomeBatch:
        taken = self.ended.pop(0) if self.ended else outcomes()
        count = len(taken.outcomes)
        taken.outcomes["runner"], self.names = self.names[:count], self.names[count:]
        return taken

    def missing(self, pages: Any, newest: Any, snapshot: int) -> Any:
        return pages

    def cached_versions(self, pages: Any) -> Any:
        return np.array([self.held.get(page, (-1, 0))[0] for page in pages.tolist()], np.int64)

    def renew(self, pages: Any, until: Any) -> None:
        assert set(pages.tolist()) <= self.held.keys()

    def install(self, pages: Any, versions: Any, until: Any, memory: Any, rows: Any) -> None:
        data = gathered(memory, rows)
        assert data.shape == (len(pages), PAGE_BYTES)
        frames = zip(pages.tolist(), versions.tolist(), data[:, 0].tolist(), strict=True)
        for page, version, first in frames:
            self.held.pop(page, None)
            self.held[page] = version, first
        while len(self.held) > max(self.pages_max, len(pages)):
            del self.held[next(iter(self.held))]

    def park(self) -> int:
        self.parked += 1
        return self.parked

    def unpark(self, handle: int) -> None:
        self.unparked.append(handle)

    def grant_lease(self, lease: Any) -> None:
        self.granted.append((lease.start, lease.end))


class Plane:
    """A data plane that owes every read, or none, and remembers what is written."""

    carries_content = False
    waits_for = ""

    def __init__(self, is_late: bool = True) -> None:
        self.is_late = is_late
        self.asked: list[tuple[int, list[int], int]] = []
        self.came: list[tuple[int, Any]] = []
        self.written: list[tuple[int, int, bytes]] = []

    def read_frames(self, home: int, frames: Any, ticket: int) -> Any:
        self.asked.append((home, frames.tolist(), ticket))
        return None if self.is_late else Content.of(content_of(frames))

    def arrived(self) -> Any:
        came, self.came = self.came, []
        return came

    def write_arena(self, home: int, offset: int, data: Any) -> None:
        self.written.append((home, offset, data.tobytes()))


def content_of(frames: Any) -> Any:
    """Return frames whose bytes are their number."""
    return np.repeat(np.asarray(frames, np.uint8)[:, None], PAGE_BYTES, axis=1)


def worker_of(engine: Shelf, plane: Any, home_count: int = 3, inline_bytes_max: int = 8) -> Worker:
    """Return a worker whose pages go round the homes one by one."""
    geometry = Geometry(home_count, 1)
    return Worker(4, engine, geometry, plane, SLICE, inline_bytes_max)  # type: ignore[arg-type]


def batch(pages: list[int], runner_count: int = 1, first_number: int = 1) -> Dispatched:
    """Return runners of which the first declares pages."""
    attempts = np.zeros(runner_count, ATTEMPT)
    attempts["runner"] = np.arange(runner_count)
    attempts["grant_count"][0] = len(pages)
    grants = np.array([((FIRST + p) << PAGE_SHIFT, PAGE_BYTES, SNAPSHOT) for p in pages], GRANT)
    numbers = np.arange(first_number, first_number + runner_count)
    return Dispatched(SNAPSHOT, numbers, attempts, grants, np.empty(0, RUN), np.empty(0, np.uint8))


def outcomes(*write_sets: tuple[int, int]) -> OutcomeBatch:
    """Return commits that store `length` bytes at `start` of the data; byte k holds k."""
    rows = np.zeros(len(write_sets), OUTCOME)
    rows["runner"], rows["end"] = np.arange(len(write_sets)), End.COMMIT
    rows["run_first"], rows["run_count"] = np.arange(len(write_sets)), 1
    firsts = np.cumsum([0, *(length for _, length in write_sets)])
    runs = [(DATA_START + s, n, f) for (s, n), f in zip(write_sets, firsts, strict=False)]
    return OutcomeBatch(
        rows,
        np.array(runs, RUN),
        np.arange(firsts[-1]).astype(np.uint8),
        np.empty(0, CHILD),
        np.empty(0, RANGE),
        np.empty(0, RANGE),
        np.empty(0, np.uint8),
        np.empty(0, np.int64),
    )


def answer_to(
    request: LookupRequested, home: int, frames: list[int], versions: list[int]
) -> LookupAnswered:
    """Answer as a home does that has these frames; content goes along if it is wanted."""
    held = request.held.tolist() or versions
    sent = [f for f, v, h in zip(frames, versions, held, strict=True) if f != NO_FRAME and v != h]
    return LookupAnswered(
        home,
        request.ticket,
        request.pages,
        np.array(frames, np.int64),
        np.array(versions, np.int64),
        np.full(len(frames), SNAPSHOT),
        content_of(sent).reshape(-1),
    )


def handle(worker: Worker, message: Any) -> Any:
    """Return what the worker sends: `(target, message)`, of whatever kinds they are."""
    return worker.handle(message)


def requests_of(sent: Any) -> list[tuple[int, LookupRequested]]:
    assert all(kind == "home" and isinstance(m, LookupRequested) for (kind, _), m in sent)
    return [(home, message) for (_, home), message in sent]


# --- pages that come late -----------------------------------------------------------------------
def test_a_lookup_is_open_until_its_pages_have_come() -> None:
    """Reads of three homes come back in another order; only then does the engine run."""
    engine, plane = Shelf(), Plane()
    worker = worker_of(engine, plane)
    requests = requests_of(handle(worker, batch([0, 1, 2, 3])))
    assert [home for home, _ in requests] == sorted({(FIRST + p) % 3 for p in range(3)})
    assert all(request.held.size == 0 for _, request in requests), "frames are read, not sent"
    for home, request in requests:
        versions = [5] * len(request.pages)
        assert handle(worker, answer_to(request, home, [home + 1] * len(versions), versions)) == ()
    assert len(plane.asked) == 3
    for home, frames, ticket in plane.asked[::-1]:
        assert not worker.is_runnable
        assert not {page % 3 for page in engine.held} & {home}
        plane.came.append((ticket, Content.of(content_of(frames))))
        assert worker.poll_plane() == ()
    assert worker.is_runnable
    assert engine.held == {FIRST + p: (5, (FIRST + p) % 3 + 1) for p in range(4)}


def test_a_read_that_is_complete_at_once_is_installed_at_once() -> None:
    engine = Shelf()
    worker = worker_of(engine, Plane(is_late=False), home_count=1)
    ((home, request),) = requests_of(handle(worker, batch([0])))
    handle(worker, answer_to(request, home, [9], [5]))
    assert worker.is_runnable
    assert engine.held == {FIRST: (5, 9)}


def located(*pages: int, home_count: int = 3) -> Any:
    """Return where pages lie, in frames of their number beyond FIRST."""
    rows = [(FIRST + p, (FIRST + p) % home_count, p, 5) for p in pages]
    return np.array(rows, LOCATED)


@pytest.mark.parametrize("is_late", [False, True])
def test_of_pages_that_came_located_no_home_is_asked(is_late: bool) -> None:
    engine, plane = Shelf(), Plane(is_late)
    worker = worker_of(engine, plane)
    sent = handle(worker, replace(batch([0, 3, 1]), located=located(0, 3, 1, 7)))
    assert sent == ()
    assert [(home, frames) for home, frames, _ in plane.asked] == [
        (FIRST % 3, [0, 3]),
        ((FIRST + 1) % 3, [1]),
    ]
    assert worker.is_held_up == is_late
    for _, frames, ticket in plane.asked if is_late else ():
        plane.came.append((ticket, Content.of(content_of(frames))))
    worker.poll_plane()
    assert worker.is_runnable
    assert engine.held == {FIRST: (5, 0), FIRST + 3: (5, 3), FIRST + 1: (5, 1)}


def test_of_the_others_their_homes_are_asked() -> None:
    engine, plane = Shelf(), Plane(is_late=False)
    worker = worker_of(engine, plane, home_count=1)
    told = replace(batch([0, 1]), located=located(1, home_count=1))
    ((home, request),) = requests_of(handle(worker, told))
    assert request.pages.tolist() == [FIRST]
    assert worker.is_held_up
    handle(worker, answer_to(request, home, [9], [5]))
    assert worker.is_runnable
    assert engine.held == {FIRST: (5, 9), FIRST + 1: (5, 1)}


def test_a_page_that_came_located_and_is_touched_late_is_not_asked_for() -> None:
    engine, plane = Shelf(), Plane(is_late=False)
    worker = worker_of(engine, plane, home_count=1)
    handle(worker, replace(batch([]), located=located(2, home_count=1)))
    engine.stops = [Exit(Reason.PAGE_MISSED, 0, 1, page=FIRST + 2)]
    assert worker.run_slice(9, 0)[0] == ()
    assert worker.is_runnable
    assert engine.held == {FIRST + 2: (5, 2)}


def test_where_content_travels_in_messages_homes_are_asked_all_the_same() -> None:
    worker = worker_of(Shelf(), MessagePlane(), home_count=1)
    told = replace(batch([0]), located=located(0, home_count=1))
    ((_, request),) = requests_of(handle(worker, told))
    assert request.pages.tolist() == [FIRST]


def test_an_answer_or_pages_that_nobody_asked_for_are_our_fault() -> None:
    plane = Plane()
    worker = worker_of(Shelf(), plane, home_count=1)
    ((home, request),) = requests_of(handle(worker, batch([0])))
    plane.came.append((request.ticket, Content.of(content_of([9]))))
    with pytest.raises(AssertionError, match="before their home answered"):
        worker.poll_plane()
    handle(worker, answer_to(request, home, [9], [5]))
    with pytest.raises(AssertionError, match="answered twice"):
        handle(worker, answer_to(request, home, [9], [5]))


# --- pages that come with the answers -----------------------------------------------------------
def test_homes_are_told_what_is_held_and_send_the_rest() -> None:
    engine = Shelf()
    engine.held = {FIRST + 1: (5, 77), FIRST + 2: (5, 78)}
    worker = worker_of(engine, MessagePlane(), home_count=1)
    ((home, request),) = requests_of(handle(worker, batch([0, 1, 2, 3])))
    assert request.held.tolist() == [-1, 5, 5, -1]
    handle(worker, answer_to(request, home, [7, 8, 9, NO_FRAME], [6, 5, 8, 0]))
    assert worker.is_runnable
    assert engine.held == {
        FIRST: (6, 7),
        FIRST + 1: (5, 77),
        FIRST + 2: (8, 9),
        FIRST + 3: (0, 0),
    }


def test_what_was_pushed_out_meanwhile_is_asked_for_when_it_is_missed() -> None:
    """The view has room for two pages; the second home's page pushes out one that was held."""
    engine = Shelf(pages_max=2)
    engine.held = {FIRST: (5, 77), FIRST + 2: (5, 78)}
    engine.stops = [Exit(Reason.PAGE_MISSED, 0, 10, page=FIRST)]
    worker = worker_of(engine, MessagePlane(), home_count=2)
    (even, of_even), (odd, of_odd) = sorted(
        requests_of(handle(worker, batch([0, 1, 2]))), key=lambda r: -len(r[1].pages)
    )
    assert of_even.held.tolist() == [5, 5]
    handle(worker, answer_to(of_odd, odd, [3], [5]))
    handle(worker, answer_to(of_even, even, [4, 6], [5, 5]))
    assert engine.held.keys() == {FIRST + 2, FIRST + 1}
    sent, _ = worker.run_slice(100, 0)
    ((home, again),) = requests_of(sent)
    assert home == even
    assert (again.pages.tolist(), again.held.tolist()) == ([FIRST], [-1])
    handle(worker, answer_to(again, even, [4], [5]))
    assert engine.held[FIRST] == (5, 4)


def test_where_attempts_abort_pages_come_late_and_few_of_them_together() -> None:
    engine = Shelf()
    worker = worker_of(engine, Plane(is_late=False), home_count=1)
    for number in range(1, 3):
        ended = outcomes((0, 1))
        ended.outcomes["end"] = End.ABORT
        engine.ended, engine.stops = [ended], [Exit(Reason.BATCH_DONE, 0, 10)]
        handle(worker, batch([], first_number=number))
        worker.run_slice(100, 0)
    assert handle(worker, batch([0, 1, 2], first_number=3)) == (), "nothing is fetched early"
    engine.stops = [
        Exit(Reason.PAGE_MISSED, 0, 10, page=FIRST + 1),
        Exit(Reason.PAGE_MISSED, 0, 10, page=FIRST + 2),
    ]
    ((home, request),) = requests_of(worker.run_slice(100, 0)[0])
    assert request.pages.tolist() == [FIRST + 1, FIRST, FIRST + 2]
    handle(worker, answer_to(request, home, [7, 8, 9], [5, 5, 5]))
    ((_, again),) = requests_of(worker.run_slice(100, 0)[0])
    assert again.pages.tolist() == [FIRST + 2], "as any touch after the first"


# --- large write sets ---------------------------------------------------------------------------
def finish(worker: Worker, engine: Shelf, *write_sets: tuple[int, int]) -> Any:
    """Run a batch to its end, with these commits."""
    engine.ended = [outcomes(*write_sets)]
    engine.stops = [Exit(Reason.BATCH_DONE, 0, 10)]
    assert handle(worker, batch([], len(write_sets))) == ()
    sent, instructions = worker.run_slice(100, 0)
    assert instructions == 10
    return sent


def record_of(sent: Any) -> Finished:
    (found,) = (message for _, message in sent if isinstance(message, Finished))
    return found


def released(part: Staged, home: int) -> ArenaReleased:
    return ArenaReleased(home, part.serial, part.part)


def test_staged_bytes_lie_in_the_arena_before_the_home_is_told() -> None:
    """A slice holds two parts; the record leaves when the last one does."""
    engine, plane = Shelf(), Plane()
    worker = worker_of(engine, plane, home_count=1)
    sent = finish(worker, engine, (100, 80))
    assert [target for target, _ in sent] == [("home", 0)] * 2
    parts = [message for _, message in sent]
    assert plane.written == [(0, 0, bytes(range(32))), (0, 32, bytes(range(32, 64)))]
    assert [part.runs.tolist() for part in parts] == [
        [(DATA_START + 100, 32, 0)],
        [(DATA_START + 132, 32, 32)],
    ]
    assert all(part.data.size == 0 for part in parts)
    assert worker.waits_for == "room in the staging arena of home 0"
    (_, part), (target, finished) = handle(worker, released(parts[0], 0))
    assert plane.written[2] == (0, 0, bytes(range(64, 80)))
    assert part.is_last
    assert target == ("coordinator", 0)
    assert isinstance(finished, Finished)
    assert finished.records["serial"].tolist() == [part.serial]
    assert finished.data.size == 0


def test_staged_bytes_travel_in_messages_where_content_does() -> None:
    """The same parts, the same limit on what is under way, and nothing in any arena."""
    engine = Shelf()
    worker = worker_of(engine, MessagePlane(), home_count=1)
    sent = finish(worker, engine, (100, 80))
    parts = [message for _, message in sent]
    told = [(part.runs.tolist(), part.data.tobytes()) for part in parts]
    assert told == [
        ([(DATA_START + 100, 32, 0)], bytes(range(32))),
        ([(DATA_START + 132, 32, 0)], bytes(range(32, 64))),
    ]
    (_, part), (target, _) = handle(worker, released(parts[1], 0)) or handle(
        worker, released(parts[0], 0)
    )
    assert (part.runs.tolist(), part.data.tobytes()) == (
        [(DATA_START + 164, 16, 0)],
        bytes(range(64, 80)),
    )
    assert target == ("coordinator", 0)


def test_small_write_sets_travel_in_the_record() -> None:
    engine = Shelf()
    worker = worker_of(engine, Plane())
    ((target, finished),) = finish(worker, engine, (100, 8), (200, 3))
    assert target == ("coordinator", 0)
    assert finished.data.tobytes() == bytes(range(11))
    assert finished.records["serial"].tolist() == [0, 0]
    assert finished.records["attempt"].tolist() == [1, 2]


def test_what_is_at_home_beside_the_worker_stays_there() -> None:
    """Neither to the coordinator and back, nor with what goes elsewhere."""
    length = DETOUR_BYTES_MIN // 2
    engine, homes = Shelf(), Geometry(5, DETOUR_BYTES_MIN // PAGE_BYTES)
    worker = Worker(4, engine, homes, MessagePlane(), 2 * length)  # type: ignore[arg-type]
    first = -DATA_START % (5 * DETOUR_BYTES_MIN)
    own, at_0 = first + 4 * DETOUR_BYTES_MIN, first
    sent = finish(worker, engine, (own, length), (own, length - 1), (at_0, length))
    (target, part), (_, finished) = sent
    assert target == ("home", 4)
    assert part.runs.tolist() == [(DATA_START + own, length, 0)]
    assert part.is_last
    assert finished.records["serial"].tolist() == [part.serial, 0, 0]
    assert finished.data.size == 2 * length - 1


def test_a_runner_may_be_here_twice() -> None:
    """Its first attempt sleeps here, was given up on, and is not the one that ends first."""
    engine = Shelf()
    worker = worker_of(engine, Plane())
    engine.stops = [Exit(Reason.SLEEPING, 0, 1, sleep_us=9), Exit(Reason.BATCH_DONE, 1, 0)]
    handle(worker, batch([], first_number=4))
    worker.run_slice(100, 0)
    worker.run_slice(100, 0)
    engine.ended = [outcomes((100, 1)), outcomes((100, 1))]
    handle(worker, batch([], first_number=6))
    engine.names.reverse()
    engine.stops = [Exit(Reason.BATCH_DONE, 1, 1), Exit(Reason.BATCH_DONE, 1, 1)]
    second = record_of(worker.run_slice(100, 0)[0])
    assert second.records["attempt"].tolist() == [6]
    worker.wake(9)
    first = record_of(worker.run_slice(100, 9)[0])
    assert first.records["attempt"].tolist() == [4]
    assert first.outcomes["runner"].tolist() == second.outcomes["runner"].tolist() == [0]


# --- what it waits for --------------------------------------------------------------------------
def test_a_wait_for_pages_names_them_and_their_homes() -> None:
    plane = Plane()
    worker = worker_of(Shelf(), plane, home_count=2)
    requests = requests_of(handle(worker, batch([0, 2, 5])))
    (even, request), (odd, _) = sorted(requests, key=lambda r: -len(r[1].pages))
    start = DATA_START
    last = start + 5 * PAGE_BYTES
    texts = {
        even: f"2 pages in [{start:#x}, {start + 3 * PAGE_BYTES:#x}) as of epoch 17",
        odd: f"1 page in [{last:#x}, {last + PAGE_BYTES:#x}) as of epoch 17",
    }
    assert worker.waits_for == "; ".join(
        f"{texts[home]} (directory of home {home})" for home in sorted(texts)
    )
    handle(worker, answer_to(request, even, [1, 2], [5, 5]))
    assert f"{texts[even]} (frames of home {even})" in worker.waits_for


def test_a_wait_for_many_homes_names_some() -> None:
    worker = worker_of(Shelf(), Plane(), home_count=8)
    handle(worker, batch(list(range(8))))
    assert worker.waits_for.count(" as of epoch ") == 3
    assert worker.waits_for.endswith("; 5 more")


def test_other_waits_are_told_as_what_they_are() -> None:
    engine = Shelf()
    worker = worker_of(engine, Plane())
    assert worker.waits_for == "runners to be dispatched"
    handle(worker, batch([]))
    assert worker.waits_for == "its turn"
    engine.stops = [Exit(Reason.LEASE_NEEDED, 0, 1, lease=LeaseKind.ID)]
    worker.run_slice(100, 0)
    assert worker.waits_for == "a lease of addresses from the coordinator"
    handle(worker, LeaseGranted(int(LeaseKind.ID), 0, 1))
    engine.stops = [Exit(Reason.SLEEPING, 0, 1, sleep_us=50), Exit(Reason.BATCH_DONE, 0, 1)]
    ((_, asleep),), _ = worker.run_slice(100, 0)
    assert asleep == AsleepChanged(4, 1)
    worker.run_slice(100, 0)
    assert worker.waits_for == "1 sleeping runner"


def test_who_sleeps_again_leaves_nothing_to_run() -> None:
    """Woken outside of any batch, it sleeps once more: the next slice finds nothing to do."""
    engine = Shelf()
    worker = worker_of(engine, Plane())
    handle(worker, batch([]))
    engine.stops = [Exit(Reason.SLEEPING, 0, 1, sleep_us=50), Exit(Reason.BATCH_DONE, 0, 1)]
    worker.run_slice(100, 0)
    worker.run_slice(100, 0)
    worker.wake(50)
    engine.stops = [Exit(Reason.SLEEPING, 0, 1, sleep_us=50), Exit(Reason.BATCH_DONE, 0, 0)]
    worker.run_slice(100, 50)
    worker.check_invariants()
    worker.run_slice(100, 50)
    worker.check_invariants()
    assert worker.wakes_at_us == 100


# --- attempts that bring their own addresses ----------------------------------------------------
ID_NEEDED = Exit(Reason.LEASE_NEEDED, 0, 1, lease=LeaseKind.ID)
DONE = Exit(Reason.BATCH_DONE, 0, 1)


def bringing(runner_count: int, first_number: int = 1) -> Dispatched:
    given = batch([], runner_count)
    numbers = np.arange(first_number, first_number + runner_count)
    return replace(given, numbers=numbers, leases=np.zeros(runner_count, LEASES))


def test_who_waits_for_own_addresses_makes_way_for_others() -> None:
    """The second of a batch runs while the first waits, which then goes on with what it got."""
    engine = Shelf()
    worker = worker_of(engine, Plane())
    handle(worker, bringing(2))
    engine.stops = [ID_NEEDED, DONE]
    sent, _ = worker.run_slice(100, 0)
    asked, asleep = (message for _, message in sent)
    assert asked == LeaseRequested(4, LeaseKind.ID, 0, 1)
    assert asleep == AsleepChanged(4, 1)
    assert worker.is_runnable
    worker.run_slice(100, 0)
    assert worker.waits_for == "addresses for 1 runner"
    handle(worker, LeaseGranted(int(LeaseKind.ID), 10, 20, 1))
    assert (engine.unparked, engine.granted) == ([1], [(10, 20)])
    assert worker.is_runnable


def test_who_waits_alone_stays_in_the_view_until_others_come() -> None:
    engine = Shelf()
    worker = worker_of(engine, Plane())
    handle(worker, bringing(1))
    engine.stops = [ID_NEEDED, ID_NEEDED, DONE]
    worker.run_slice(100, 0)
    assert engine.parked == 0
    handle(worker, LeaseGranted(int(LeaseKind.ID), 10, 20, 1))
    assert worker.is_runnable
    worker.run_slice(100, 0)
    (_, asleep), *_ = worker.handle(bringing(1, first_number=2))
    assert asleep == AsleepChanged(4, 1)
    assert engine.parked == 1
    handle(worker, LeaseGranted(int(LeaseKind.ID), 30, 40, 1))
    assert engine.unparked == [], "the engine is busy"
    worker.run_slice(100, 0)
    assert (engine.unparked, engine.granted) == ([1], [(10, 20), (30, 40)])

"""A worker: takes batches of attempts, fetches what they read, runs them, reports their ends.

This is where engine and shared memory meet. A state machine around an engine: messages come in
through `handle`, pages through `poll_plane`, time through `run_slice` and `wake`; what it wants to
say is returned. Invariant: the engine runs only when the pages of every lookup have been
installed, and a record leaves only after all its staged bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_FUEL, INLINE_BYTES_MAX
from dvm_mpi.control.asking import Asking
from dvm_mpi.control.delivery import COORDINATOR, Sent
from dvm_mpi.control.departures import Departures
from dvm_mpi.control.eagerness import Eagerness
from dvm_mpi.control.joining import encode_traps, without_staged
from dvm_mpi.control.lookup import Lookup, known_answers, questions, told_of
from dvm_mpi.control.messages import (
    RECORD,
    AnswerRequested,
    AsleepChanged,
    BatchRecalled,
    Dispatched,
    Finished,
    LeaseGranted,
    WorkerEvent,
)
from dvm_mpi.control.returning import give_back
from dvm_mpi.control.roster import Pace, Roster
from dvm_mpi.control.slices import effort_of
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.hot_pages import HotPages
from dvm_mpi.dsm.messages import (
    NO_FRAME,
    ArenaReleased,
    BlocksMoved,
    LookupAnswered,
    LookupRequested,
)
from dvm_mpi.dsm.snapshot import (
    Content,
    DataPlane,
    Fetch,
    ReadAhead,
    Walks,
    eager_pages,
    plan_delivery,
    plan_fetch,
    with_companions,
)
from dvm_mpi.engine.interface import (
    AttemptBatch,
    End,
    Engine,
    Exit,
    Lease,
    LeaseKind,
    OutcomeBatch,
    Reason,
)
from dvm_mpi.io.report import counted
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass

_NOTHING: Final = np.empty(0, np.int64)


class Phase(Enum):
    """What a worker does or waits for."""

    IDLE = 0
    FETCHING = 1
    READY = 2
    LEASING = 3
    STAGING = 4


@dataclass(slots=True)
class _Parked:
    """An attempt that was set aside: it sleeps, or waits for addresses of its own."""

    handle: int
    number: int
    snapshot: int
    grants: NDArray[Any]  # GRANT, of this attempt
    #: Ids that were leased for it so far.
    leased_ids: int = 0
    #: When it goes on, if it sleeps.
    wakes_at_us: int = 0


class Worker:
    """One worker around one engine.

    Parameters
    ----------
    number
        Of this worker, from 0.
    engine
        Loaded with the program; this worker's own.
    geometry
        Where pages live.
    plane
        Reads frames and writes arenas, or leaves both to the messages.
    arena_slice_bytes
        This worker's slice of each home's arena; where staged bytes travel in messages, how many
        may be under way to each home.
    inline_bytes_max
        Larger write sets are staged at the homes before their record leaves; smaller ones too, if
        DETOUR_BYTES_MIN would travel less for it.
    tells_staged
        Whether records hold the bytes of staged write sets as well, for a history.
    """

    def __init__(
        self,
        number: int,
        engine: Engine,
        geometry: Geometry,
        plane: DataPlane,
        arena_slice_bytes: int,
        inline_bytes_max: int = INLINE_BYTES_MAX,
        tells_staged: bool = False,
    ) -> None:
        self.number = number
        self.engine = engine
        self._geometry = geometry
        self._plane = plane
        self._departures = Departures(number, geometry, plane, arena_slice_bytes, inline_bytes_max)
        self._tells_staged = tells_staged
        self._phase = Phase.IDLE
        self._batches: deque[Dispatched] = deque()
        self._current: Dispatched | None = None
        #: Whether attempts come with addresses of their own, instead of sharing this worker's.
        self._attempts_bring_leases = False
        #: Place in its batch of the attempt in the view that waits for a lease.
        self._leasing_index = 0
        self._asks = Asking(number)
        #: Snapshot of the batch, or of the parked attempt that goes on.
        self._snapshot = 0
        #: The attempt that was parked, and goes on outside of any batch.
        self._resumed: _Parked | None = None
        #: Read-ahead of the running attempt, and its place in the batch; what earlier ones did.
        self._walks = Walks()
        self._read_ahead, self._read_ahead_index = ReadAhead(self._walks), -1
        self._sleepers: list[_Parked] = []
        #: Attempts that wait for a lease of their own, by number; and what came for them.
        self._asking: dict[int, _Parked] = {}
        self._granted: deque[tuple[_Parked, Lease]] = deque()
        #: The attempts that this worker has, how long they are, and for whom pages come early.
        self._roster, self._pace = Roster(), Pace()
        self._eagerness = Eagerness()
        #: Whether pages of the last batch were left to be fetched where they are touched.
        self._was_late = False
        #: Lookups under way, until their pages are installed; by ticket.
        self._lookups: dict[int, Lookup] = {}
        self._last_ticket = 0
        #: Effort of what was executed since ends were last reported, and of these ends.
        self._unreported = 0
        #: After how many they are.
        self._report_fuel = BATCH_FUEL
        #: Place in its batch of the attempt that is next, or under way.
        self._index = 0
        #: How fast its engine executes, as whoever gives it slices has measured; 0: not known.
        self.instructions_per_us = 0.0
        #: Pages read, for whoever looks at the run.
        self.hot_pages = HotPages()
        #: Bytes of frames read since the last record, and since the beginning.
        self._fetched_bytes = self.installed_bytes = 0

    # --- what others may look at ----------------------------------------------------------------
    @property
    def is_runnable(self) -> bool:
        """Whether `run_slice` would execute something."""
        return self._phase is Phase.READY

    @property
    def is_held_up(self) -> bool:
        """Whether runners are here and cannot go on before a message or pages come."""
        return self._phase in {Phase.FETCHING, Phase.LEASING, Phase.STAGING}

    @property
    def batch(self) -> Dispatched | None:
        """The batch on the engine; None if there is none, or an attempt that was set aside."""
        return self._current if self._resumed is None else None

    @property
    def tickets(self) -> Collection[int]:
        """Lookups under way."""
        return self._lookups.keys()

    @property
    def wakes_at_us(self) -> int | None:
        """When the next sleeping attempt goes on, if nothing else is to be done."""
        if self._phase is not Phase.IDLE or not self._sleepers:
            return None
        return min(s.wakes_at_us for s in self._sleepers)

    @property
    def waits_for(self) -> str:
        """Tell what this worker waits for, in words for a message about a long wait."""
        waits = []
        if self._phase is Phase.FETCHING:
            waits += told_of(self._lookups.values())
        elif self._phase is Phase.READY:
            waits.append("its turn")
        elif self._phase is Phase.LEASING:
            waits.append("a lease of addresses from the coordinator")
        if (home := self._departures.wanted_home) is not None:
            waits.append(f"room in the staging arena of home {home}")
        if self._sleepers:
            waits.append(counted(len(self._sleepers), "sleeping runner"))
        if self._asking:
            waits.append(f"addresses for {counted(len(self._asking), 'runner')}")
        return "; ".join(waits) or "runners to be dispatched"

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left of any attempt: none here, none on its way out."""
        is_leaving = self._departures.are_waiting
        return not (
            self._batches or len(self._roster) or self._lookups or is_leaving or self._sleepers
        )

    @property
    def parts_under_way(self) -> bool:
        """Whether a home has not released some part of a write set."""
        return self._departures.parts_under_way

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        self._departures.check_invariants()
        assert (self._phase is Phase.FETCHING) == bool(self._lookups)
        assert self._phase is not Phase.STAGING or self._departures.are_waiting
        assert self._phase is not Phase.IDLE or not self._batches, "nothing is done, but could be"
        assert all(sleeper.snapshot > 0 for sleeper in self._sleepers)
        is_running = self._phase in {Phase.READY, Phase.FETCHING, Phase.LEASING}
        has_attempts = self._current is not None or self._resumed is not None
        assert is_running or not has_attempts
        # Who was woken outside of any batch and sleeps again leaves an engine with nothing to do,
        # which says so in the next slice.
        assert has_attempts or not is_running or self._phase is Phase.READY

    # --- messages -------------------------------------------------------------------------------
    def handle(self, event: WorkerEvent) -> tuple[Sent, ...]:
        """Take one message; return what is to be sent."""
        sent: list[Sent] = []
        if isinstance(event, Dispatched):
            self._batches.append(event)
            if self._phase is Phase.LEASING and self._attempts_bring_leases:
                # Others may be what it waits for.
                sent += self._make_way(self._leasing_index)
                self._current = self._resumed = None
                self._phase = Phase.IDLE
            if self._phase is Phase.IDLE:
                sent += self._next()
        elif isinstance(event, LookupAnswered):
            self._take_answer(event)
        elif isinstance(event, LeaseGranted):
            sent += self._take_lease(event)
        elif isinstance(event, AnswerRequested):
            sent.append(self._asleep_changed())
        elif isinstance(event, BlocksMoved):
            self._geometry.move(event.epoch, event.moved, event.homes)
        elif isinstance(event, BatchRecalled):
            sent.append((COORDINATOR, give_back(self.number, self._batches)))
        else:
            assert isinstance(event, ArenaReleased)
            sent += self._departures.release(event)
            sent += self._next()
        return tuple(sent)

    def _take_lease(self, granted: LeaseGranted) -> list[Sent]:
        lease = Lease(LeaseKind(granted.kind), granted.start, granted.end)
        if granted.attempt in self._asking:
            self._granted.append((self._asking.pop(granted.attempt), lease))
            return self._next() if self._phase is Phase.IDLE else []
        assert self._phase is Phase.LEASING
        self._grant(lease)
        self._phase = Phase.READY
        return []

    def _grant(self, lease: Lease) -> None:
        """Give addresses to the engine, of which an attempt waits for them."""
        self._asks.note(lease)
        self.engine.grant_lease(lease)

    def poll_plane(self) -> tuple[Sent, ...]:
        """Take the pages that have come beside the messages; return what is to be sent."""
        for ticket, content in self._plane.arrived():
            reading = self._lookups[ticket].reading
            assert reading is not None, "pages came before their home answered"
            self._install(ticket, reading, content)
        return ()

    def wake(self, now_us: int) -> list[Sent]:
        """Put a sleeping attempt that is due back on the engine, if that is idle."""
        due = [s for s in self._sleepers if s.wakes_at_us <= now_us]
        if self._phase is not Phase.IDLE or not due:
            return []
        sleeper = min(due, key=lambda s: (s.wakes_at_us, s.handle))
        self._sleepers.remove(sleeper)
        return self._resume(sleeper)

    def _resume(self, parked: _Parked) -> list[Sent]:
        """Put a parked attempt back on the engine, which is idle."""
        self.engine.unpark(parked.handle)
        self._resumed, self._snapshot = parked, parked.snapshot
        self._asks.resume(parked.number, parked.leased_ids)
        self._read_ahead, self._read_ahead_index = ReadAhead(self._walks), -1
        self._phase = Phase.READY
        return [self._asleep_changed()]

    def _asleep_changed(self) -> Sent:
        asleep = len(self._sleepers) + len(self._asking) + len(self._granted)
        return COORDINATOR, AsleepChanged(self.number, asleep)

    # --- running --------------------------------------------------------------------------------
    def run_slice(self, fuel: int, now_us: int) -> tuple[tuple[Sent, ...], int]:
        """Execute attempts that take about as long as `fuel` instructions.

        Return what is to be sent, and how many instructions ran.
        """
        assert self._phase is Phase.READY
        if self._resumed is None:
            stopped = self.engine.run(self._pace.fuel(fuel))
            ended = stopped.index - self._index
            executed = self._pace.ran(stopped.instructions, ended)
            self._unreported += effort_of(executed, self.instructions_per_us)
            self._index = stopped.index
        else:
            stopped = self.engine.run(fuel)
            self._unreported += effort_of(stopped.instructions, self.instructions_per_us)
        goes_on = stopped.reason in {Reason.PAGE_MISSED, Reason.SLICE_ENDED}
        sent: list[Sent] = []
        if not goes_on or self._unreported >= self._report_fuel:
            sent += self._report(self.engine.take_outcomes())
            self._unreported = 0
        if stopped.reason is Reason.PAGE_MISSED:
            sent += self._fetch_missed(stopped)
        elif stopped.reason is Reason.LEASE_NEEDED:
            sent += self._request_lease(stopped)
        elif stopped.reason is Reason.SLEEPING:
            sleeper = self._park(stopped.index)
            sleeper.wakes_at_us = now_us + stopped.sleep_us
            self._sleepers.append(sleeper)
            sent.append(self._asleep_changed())
        elif stopped.reason is Reason.BATCH_DONE:
            self._current = self._resumed = None
            self._phase = Phase.IDLE
            sent += self.wake(now_us)
            sent += self._next()
        return tuple(sent), stopped.instructions

    def _request_lease(self, stopped: Exit) -> list[Sent]:
        """Ask for addresses; an attempt that brings its own ones makes way for others."""
        number, is_own = self._number(stopped.index), self._attempts_bring_leases
        sent: list[Sent] = [(COORDINATOR, self._asks.request(stopped, number, is_own=is_own))]
        if self._attempts_bring_leases and self._has_more_to_do(stopped.index):
            sent += self._make_way(stopped.index)
        else:
            self._phase, self._leasing_index = Phase.LEASING, stopped.index
        return sent

    def _has_more_to_do(self, index: int) -> bool:
        """Say whether anybody else is to run here, now or later."""
        is_last = self._current is None or index + 1 == len(self._current.attempts)
        return not is_last or bool(self._batches or self._granted or self._sleepers)

    def _make_way(self, index: int) -> list[Sent]:
        """Set the running attempt, which waits for addresses, aside."""
        parked = self._park(index)
        self._asking[parked.number] = parked
        return [self._asleep_changed()]

    def _park(self, index: int) -> _Parked:
        """Set the running attempt aside; the engine goes on with the next one."""
        number, grants = self._number(index), self._grants(index)
        self._resumed = None
        leased_ids = self._asks.leased_ids(number)
        return _Parked(self.engine.park(), number, self._snapshot, grants, leased_ids)

    def _number(self, index: int) -> int:
        """Return the number of the running attempt."""
        if self._resumed is not None:
            return self._resumed.number
        assert self._current is not None
        return int(self._current.numbers[index])

    def _grants(self, index: int) -> NDArray[Any]:
        """Return the declared ranges of the running attempt."""
        if self._resumed is not None:
            return self._resumed.grants
        assert self._current is not None
        attempt = self._current.attempts[index]
        first = int(attempt["grant_first"])
        return self._current.grants[first : first + int(attempt["grant_count"])]

    def _next(self) -> list[Sent]:
        """Begin the next batch, if the engine is free and nothing has to leave first."""
        if self._phase is Phase.STAGING and not self._departures.are_waiting:
            self._phase = Phase.IDLE
        if self._phase is not Phase.IDLE or not (self._batches or self._granted):
            return []
        if self._departures.are_waiting:
            # What has not left fills the arenas: executing more would only make it worse.
            self._phase = Phase.STAGING
            return []
        if self._granted:
            parked, lease = self._granted.popleft()
            sent = self._resume(parked)
            self._grant(lease)
            return sent
        batch = self._batches.popleft()
        self._current, self._snapshot, self._index = batch, batch.snapshot, 0
        self._report_fuel = batch.report_fuel
        self._attempts_bring_leases = len(batch.leases) > 0
        self._roster.add(batch.numbers, batch.attempts)
        attempts = batch.attempts.copy()
        attempts["runner"] = batch.numbers
        self.engine.begin(
            AttemptBatch(attempts, batch.grants, batch.image_runs, batch.image_data, batch.leases)
        )
        self._read_ahead, self._read_ahead_index = ReadAhead(self._walks), -1
        early = self._eagerness.grants(batch.attempts, batch.grants)
        self._was_late = len(early) < len(batch.grants)
        return self._look_up(self.engine.missing(*eager_pages(early), batch.snapshot))

    # --- pages ----------------------------------------------------------------------------------
    def _fetch_missed(self, stopped: Exit) -> list[Sent]:
        """Ask for a page that was touched, and for those that will probably follow."""
        is_first = stopped.index != self._read_ahead_index
        if is_first:
            self._read_ahead, self._read_ahead_index = ReadAhead(self._walks), stopped.index
        grants = self._grants(stopped.index)
        held = None if self._plane.carries_content else self._holds
        pages, newest = self._read_ahead.plan(stopped.page, grants, held)
        if is_first and self._was_late:
            pages, newest = with_companions(pages, newest, grants)
        missing = self.engine.missing(pages, newest, self._snapshot)
        if stopped.page not in missing:
            # The engine is the judge of what it needs: without an answer it would ask for ever.
            missing = np.concatenate([[stopped.page], missing])
        return self._look_up(missing)

    def _holds(self, pages: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of which pages the view has some version."""
        return np.asarray(self.engine.cached_versions(pages) >= 0)

    def _look_up(self, pages: NDArray[np.int64]) -> list[Sent]:
        """Ask the homes of `pages`; the engine waits until all of them are installed."""
        sent: list[Sent] = []
        batch = None if self._plane.carries_content else self.batch
        located, pages = known_answers(batch, pages, self._last_ticket)
        for answer in located:
            self._last_ticket = answer.ticket
            self._lookups[answer.ticket] = Lookup(
                answer.home, self._snapshot, answer.pages, _NOTHING
            )
            self._take_answer(answer)
        for home, wanted in questions(self._geometry, pages, self._snapshot):
            self._last_ticket += 1
            held = self.engine.cached_versions(wanted) if self._plane.carries_content else _NOTHING
            self._lookups[self._last_ticket] = Lookup(home, self._snapshot, wanted, held)
            request = LookupRequested(self.number, self._last_ticket, self._snapshot, wanted, held)
            sent.append((("home", home), request))
        self._phase = Phase.FETCHING if self._lookups else Phase.READY
        return sent

    def _take_answer(self, answer: LookupAnswered) -> None:
        """Install what the view does not hold yet, or begin to read it."""
        lookup = self._lookups[answer.ticket]
        assert lookup.reading is None, "a lookup was answered twice"
        cached = self.engine.cached_versions(answer.pages)
        content: Content | None
        if self._plane.carries_content:
            fetch, content = plan_delivery(answer, lookup.held, cached)
        else:
            fetch = plan_fetch(answer, cached)
            content = self._plane.read_frames(fetch.home, fetch.frames, answer.ticket)
        self.engine.renew(fetch.renewed, fetch.renewed_until)
        lookup.reading = fetch
        if content is not None:
            self._install(answer.ticket, fetch, content)

    def _install(self, ticket: int, fetch: Fetch, content: Content) -> None:
        """Put pages into the view; the engine goes on when no lookup is left."""
        read = fetch.pages[fetch.frames != NO_FRAME]
        self.hot_pages.note("fetches", read)
        self._fetched_bytes += read.size * PAGE_BYTES
        self.installed_bytes += read.size * PAGE_BYTES
        self.engine.install(fetch.pages, fetch.versions, fetch.until, content.memory, content.rows)
        del self._lookups[ticket]
        if not self._lookups:
            self._phase = Phase.READY

    # --- records --------------------------------------------------------------------------------
    def _report(self, ended: OutcomeBatch) -> list[Sent]:
        """Turn ends of attempts into a record; large write sets go to the homes' arenas first."""
        if len(ended.outcomes) == 0:
            return []
        records = np.zeros(len(ended.outcomes), dtype=RECORD)
        records["attempt"] = ended.outcomes["runner"]
        ended.outcomes["runner"], entries = self._roster.end(records["attempt"])
        end = ended.outcomes["end"]
        self._eagerness.observe(entries, (end == int(End.ABORT)) | (end == int(End.ABORT_DELETE)))
        pieces = self._departures.stage(ended, records, self._snapshot)
        runs, data = ended.runs, ended.data
        if pieces and not self._tells_staged:
            runs, data = without_staged(ended, records["serial"] > 0)
        finished = Finished(
            worker=self.number,
            records=records,
            outcomes=ended.outcomes,
            runs=runs,
            data=data,
            children=ended.children,
            child_ranges=ended.child_ranges,
            mallocs=ended.mallocs,
            console=ended.console,
            dropped_stacks=ended.dropped_stacks,
            traps=encode_traps(ended.traps),
            fetched_bytes=self._fetched_bytes,
            effort=effort_of(int(ended.outcomes["instructions"].sum()), self.instructions_per_us),
            loads=ended.loads,
            load_data=ended.load_data,
            leases=ended.leases,
        )
        self._fetched_bytes = 0
        return self._departures.add(finished, pieces, ended.data)

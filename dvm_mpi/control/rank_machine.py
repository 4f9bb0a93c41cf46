"""The machine of one rank: builds its parts over MPI, loads its share, runs to the common end.

Rank r holds home r and worker r; rank 0 coordinates as well. All ranks build their machines
together, run them together and close them together.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import dedication
from dvm_mpi.control.capacity import geometry_of, needed_pages
from dvm_mpi.control.cpu_share import CpuShare
from dvm_mpi.control.leader import Tree
from dvm_mpi.control.loader import LOADED_EPOCH, Loader
from dvm_mpi.control.rank import Rank, WritingTask, now_us
from dvm_mpi.control.transport import Transport
from dvm_mpi.control.worker import Worker
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm import probe
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.message_plane import MessagePlane
from dvm_mpi.dsm.snapshot import DataPlane
from dvm_mpi.dsm.window import WindowPlane, Windows
from dvm_mpi.engine.interface import Engine
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, field

if TYPE_CHECKING:
    from dvm_mpi.control.coordinator import Coordinator, Host
    from dvm_mpi.control.policies import Placement
    from dvm_mpi.control.rank_tracer import RankTracer
    from dvm_mpi.control.scheduler import Scheduler
    from dvm_mpi.control.validation import ConflictUnit, Isolation
    from dvm_mpi.dsm.migration import Limits

#: The data planes by the names that users give.
RMA: Final = "rma"
MESSAGE: Final = "message"
AUTO: Final = "auto"
Found = TypeVar("Found")


def _usual_fuel() -> int:
    return config.SLICE_FUEL


@dataclass(frozen=True, slots=True)
class RankSettings:
    """Sizes of one rank's machine, the same on all ranks; bytes unless the name says otherwise.

    `memory_bytes` is for the frames of this rank's home. `isolation` serializable wants engines
    that track loads.
    """

    #: RMA, MESSAGE, or AUTO: whatever a probe finds to be right.
    plane: str = RMA
    #: Whether all ranks are on one host.
    is_one_host: bool = False
    stack_bytes: int = config.STACK_BYTES_DEFAULT
    memory_bytes: int = config.GIB
    arena_slice_bytes: int = config.ARENA_SLICE_BYTES
    inline_bytes_max: int = config.INLINE_BYTES_MAX
    #: Whether records hold the bytes of staged write sets too, for a history.
    tells_staged: bool = False
    isolation: Isolation = "snapshot"
    conflict_unit: ConflictUnit = "byte"
    #: Whether the run goes by rounds, so that it does not depend on ranks and timing.
    deterministic: bool = False
    #: Where runners go.
    placement: Placement = "data"
    #: Whether blocks of pages move to other homes.
    migrates: bool = False
    #: Of its core that a rank may use; 1: all of it.
    cpu_share: float = 1.0
    #: Whether rank 0 executes runners.
    coordinator: dedication.Choice = "auto"
    #: Through whom ranks talk to the coordinator.
    tree: Tree = field(default_factory=lambda: Tree(()))


class RankMachine:
    """One rank's machine; `rank` takes the turns.

    Parameters
    ----------
    transport
        To all ranks of the run.
    image
        The program, the same on all ranks.
    settings
        Sizes.
    write_outputs
        Makes the task that writes this rank's part of the outputs as of an epoch.
    host
        The owner of the run; on rank 0 only.
    slice_fuel
        Instructions between two looks at the messages; None: as many as last a millisecond, in
        deterministic runs as usual.
    begins_us
        A moment on rank 0's clock before any rank made its machine; there only.
    turn
        Called while other ranks are waited for.
    resident_bytes
        Tells how large this process is.
    make_home, make_scheduler
        Build those parts; tests put faulty ones here. None: the usual one.

    Raises
    ------
    LimitError
        There is no room for the frames.
    """

    def __init__(
        self,
        transport: Transport,
        image: Image,
        settings: RankSettings,
        write_outputs: Callable[[int, str], WritingTask],
        *,
        host: Host | None = None,
        slice_fuel: Callable[[], int] | None = None,
        begins_us: int = 0,
        turn: Callable[[], None] = lambda: None,
        resident_bytes: Callable[[], int] = lambda: 0,
        make_home: Callable[..., Home] = Home,
        make_scheduler: Callable[..., Scheduler] | None = None,
    ) -> None:
        self.geometry = geometry_of(image, transport.size)
        self._settings = settings
        self._transport = transport
        self._engine: Engine | None = None
        #: RMA or MESSAGE, and why the latter was chosen where windows would have been possible.
        self.plane = settings.plane
        self.remark = ""
        self.windows = self._make_windows(turn)
        self.home = self._make_home(make_home)
        self.loader = Loader(self.geometry, {transport.rank: self.home})
        self.rank = Rank(
            transport,
            self.home,
            write_outputs,
            windows=self.windows,
            has_worker=self.has_worker,
            slice_fuel=_usual_fuel if slice_fuel is None and settings.deterministic else slice_fuel,
            cpu_share=CpuShare(settings.cpu_share) if settings.cpu_share < 1 else None,
            resident_bytes=resident_bytes,
            tree=settings.tree,
        )
        if transport.rank == 0:
            assert host is not None, "rank 0 has the owner of the run"
            self.rank.coordinator = self._make_coordinator(
                image, host, begins_us or now_us(), make_scheduler
            )

    def _make_coordinator(
        self,
        image: Image,
        host: Host,
        begins_us: int,
        make_scheduler: Callable[..., Scheduler] | None,
    ) -> Coordinator:
        """Make the coordinator; half of the modules of a run are for it, which others need not."""
        from dvm_mpi.control.coordinator import Coordinator
        from dvm_mpi.control.scheduler import Scheduler

        transport, settings = self._transport, self._settings
        scheduler = (make_scheduler or Scheduler)(
            self.geometry,
            transport.size,
            settings.stack_bytes,
            LOADED_EPOCH,
            workers_ready=False,
            isolation=settings.isolation,
            conflict_unit=settings.conflict_unit,
            deterministic=settings.deterministic,
            placement=settings.placement,
            moved_bytes_per_us=(
                config.MOVED_BYTES_PER_US_ON_HOST
                if settings.is_one_host
                else config.MOVED_BYTES_PER_US
            ),
            migration=self._migration_of(image),
            tree=settings.tree,
        )
        return Coordinator(
            scheduler,
            image,
            transport.size,
            transport.send,
            host,
            begins_us,
            may_dedicate=settings.coordinator == "auto" and self.has_worker,
            tree=settings.tree,
        )

    def _migration_of(self, image: Image) -> Limits | None:
        """Return when blocks of pages move to other homes; None if they do not."""
        from dvm_mpi.dsm.migration import limits_of

        if not self._settings.migrates:
            return None
        loaded_pages = int(needed_pages(image, self.geometry).max())
        return limits_of(self._settings.memory_bytes, loaded_pages)

    @property
    def has_worker(self) -> bool:
        """Whether this rank executes runners."""
        transport = self._transport
        return dedication.has_worker(transport.rank, transport.size, self._settings.coordinator)

    def start_worker(self, engine: Engine) -> None:
        """Begin to execute runners with an engine that holds the program; owned from now on."""
        assert self.has_worker
        self._engine = engine
        plane: DataPlane = MessagePlane()
        if self.windows is not None:
            plane = WindowPlane(self.windows)
        settings = self._settings
        self.rank.add_worker(
            Worker(
                self._transport.rank,
                engine,
                self.geometry,
                plane,
                settings.arena_slice_bytes,
                settings.inline_bytes_max,
                settings.tells_staged,
            )
        )

    def trace(self, tracer: RankTracer) -> None:
        """Let a tracer look on from now on."""
        self.rank.tracer = tracer
        coordinator = self.rank.coordinator
        if coordinator is not None:
            from dvm_mpi.control.coordinator_tracer import coordinator_tracer

            coordinator.tracer = coordinator_tracer(
                coordinator.scheduler, tracer.parts.journal, self._transport.size, tracer.sample
            )

    def undeclared_accesses(self) -> list[tuple[int, int]]:
        """Return what the engine admitted by --undeclared allow: pc and address."""
        return [] if self._engine is None else self._engine.undeclared_accesses()

    def instruction_counts(self) -> NDArray[np.int64] | None:
        """Return how often each instruction was executed here; None if there is no worker."""
        return None if self._engine is None else self._engine.instruction_counts()

    def close_engine(self) -> None:
        """Give the engine's memory back; after `rank.run` has returned here."""
        if self._engine is not None:
            self._engine.close()

    def close(self) -> None:
        """Give everything back; *collective*, after `rank.run` has returned on every rank."""
        self.close_engine()
        if self.windows is not None:
            self.windows.close()

    def _make_windows(self, turn: Callable[[], None]) -> Windows | None:
        """Make the windows; if the choice is ours, only after small ones have shown their worth.

        Ranks on one host that can load each other's memory need no trial. Not every library leaves
        the memory of a window alone until it is used: Open MPI, with ranks on several hosts, fills
        all of it.
        """
        if self._settings.plane == AUTO and self._settings.is_one_host:
            windows = self._final_windows()
            if self._wait_for(probe.can_load(windows), turn):
                self.plane = RMA
                return windows
            windows.close()
        if self._settings.plane == AUTO:
            self.plane = self._choose_plane(turn)
        return None if self.plane == MESSAGE else self._final_windows()

    def _final_windows(self) -> Windows:
        comm = self._transport.comm
        return Windows(
            comm,
            self._frame_count(),
            comm.Get_size(),
            self._settings.arena_slice_bytes,
            traffic=self._transport.traffic,
        )

    def _choose_plane(self, turn: Callable[[], None]) -> str:
        trial = Windows(self._transport.comm, 1, 1, PAGE_BYTES, probe.MAILBOX_BYTES)
        finding = self._wait_for(probe.probe(trial, platform.node()), turn)
        trial.close()
        if finding.answers:
            return RMA
        self.remark = finding.remark
        return MESSAGE

    def _wait_for(self, trying: Generator[None, None, Found], turn: Callable[[], None]) -> Found:
        self._transport.waits_for = "all ranks to try their windows"
        while True:
            try:
                next(trying)
            except StopIteration as ended:
                self._transport.waits_for = ""
                found: Found = ended.value
                return found
            turn()

    def _make_home(self, make_home: Callable[..., Home]) -> Home:
        if self.windows is None:
            pool = FramePool(reserve_frames(self._frame_count()))
            arena = np.zeros((self._transport.size, 0), np.uint8)
        else:
            pool, arena = FramePool(self.windows.memory), self.windows.arena
        return make_home(self._transport.rank, self.geometry, pool, arena)

    def _frame_count(self) -> int:
        frames = self._settings.memory_bytes // PAGE_BYTES
        if frames == 0:
            raise LimitError(
                f"--memory {self._settings.memory_bytes} is too small: a rank needs at least one "
                f"page of {PAGE_BYTES} bytes"
            )
        return frames

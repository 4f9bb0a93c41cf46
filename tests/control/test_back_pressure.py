"""Programs that create runners without end come to a clear end, at a limit that is named."""

from __future__ import annotations

from contextlib import closing

import pytest

from dvm_mpi import config
from dvm_mpi.control import asking, coordinator_state, leases, lifecycle, scheduler
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.errors import LimitError

ENGINE = EngineSettings(config.STACK_BYTES_DEFAULT, 0, False, config.MIB, None)

#: Every runner creates two more.
DOUBLING = """
main:   .runner main
        .runner main
        exit:c
"""

#: One runner creates others without end.
ENDLESS = """
main:   .runner child
        br:j    main
child:  exit:c
"""

#: A tree of runners: those of one depth create those of the next.
TREE = """
        .private depth
main:   mov     $DEPTH, depth
        br:j    grow
node:   .arguments depth
        br:z    depth, leaf
grow:   sub     depth, $1, depth
        .runner node, args=(depth)
        .runner node, args=(depth)
leaf:   exit:c
"""


class Watch(Silent):
    """Looks at how many runners are alive."""

    def __init__(self) -> None:
        self.most = 0

    def turned(self, driver: LocalMachine) -> None:
        """Keep the highest number."""
        self.most = max(self.most, driver.scheduler.state.table.live_count)


def run(text: str, *, deterministic: bool = False, **defines: str) -> Watch:
    watch = Watch()
    image = assemble_text(text, "endless.dasm", defines)
    machine = LocalMachine(
        image,
        MachineSettings(workers=2, check=False, on_wire=True, deterministic=deterministic),
        lambda: ReferenceEngine(ENGINE),
        observer=watch,
    )
    with closing(machine):
        machine.run()
    return watch


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RUNNERS_MAX", 2_048)
    monkeypatch.setattr(lifecycle, "CHILDREN_MAX", 300)
    monkeypatch.setattr(scheduler, "CHILDREN_MAX", 300)
    monkeypatch.setattr(leases, "ID_LEASE_COUNT", 64)
    monkeypatch.setattr(asking, "LEASE_BLOCKS_MAX", 2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("deterministic", [False, True])
def test_each_creates_two_more(deterministic: bool) -> None:
    with pytest.raises(LimitError) as raised:
        run(DOUBLING, deterministic=deterministic)
    told = str(raised.value)
    assert "would be alive at once; the limit is 2,048 (RUNNERS_MAX)" in told
    assert "created at endless.dasm:3" in told
    assert "do the work of many" in told


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("deterministic", [False, True])
def test_one_creates_without_end(deterministic: bool) -> None:
    """Long before it fills the memory of its rank: it can only commit when it ends."""
    with pytest.raises(LimitError) as raised:
        run(ENDLESS, deterministic=deterministic)
    told = str(raised.value)
    assert "has created more than" in told
    assert "the limit is 300 (CHILDREN_MAX)" in told
    assert "created at endless.dasm:2" in told


def test_a_large_tree_is_gone_through_branch_after_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breadth first its 2,048 leaves would be alive together."""
    monkeypatch.setattr(coordinator_state, "QUEUE_ROWS_IN_ORDER", 100)
    assert run(TREE, DEPTH="11").most < 1_000

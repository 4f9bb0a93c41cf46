"""Who loses again and again wins by reservation, in the midst of rivals that never rest."""

from __future__ import annotations

import pytest

from dvm_mpi.config import LOSSES_BEFORE_RUNNING_ALONE
from dvm_mpi.control import coordinator_state, sending
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.simulation import ENGINE_SETTINGS, Simulation, simulate

CHAINS = 12
LINKS = 25
#: A long runner stores to every cell. In each cell a chain of short rivals counts its links.
PROGRAM = f"""
        .bss
        .align  4096
cells:  .space  8 * {CHAINS}
seen:   .space  8
        .private at, sum, i
        .text
main:   mov     $cells, at
        .runner long, heap=[($cells, $8 * {CHAINS} + 8)]
.next:  .runner short, args=(at), heap=[(at, $8)]
        add     at, $8, at
        br:l    at, $cells + 8 * {CHAINS}, .next
        exit:c

short:  .arguments at
        add     (at), $1, (at)
        br:ge   (at), ${LINKS}, .done
        .runner short, args=(at), heap=[(at, $8)]
.done:  exit:c

long:   mov     $cells, at
.add:   add     sum, (at), sum
        mov     (at), (at)
        add     at, $8, at
        br:l    at, $cells + 8 * {CHAINS}, .add
.work:  add     i, $1, i
        br:l    i, $100, .work
        mov     sum, seen
        exit:c
"""


def links_before(seed: int) -> tuple[int, int]:
    """Return how many links the long runner saw when it committed, and how often it had lost."""
    image = assemble_text(PROGRAM, "starving.dasm", {})
    simulation = Simulation(ranks=24, seed=seed, network="heavy", draws_fuel=False)
    run = simulate(
        simulation, image, lambda: ReferenceEngine(ENGINE_SETTINGS), records_history=False
    )
    assert run.violations == []
    assert run.failure is None
    place = image.symbols["seen"]
    content = run.pages[place // PAGE_BYTES]
    seen = int.from_bytes(content[place % PAGE_BYTES :][:8], "little")
    losses = [site.most for site in run.contention if site.entry == image.symbols["long"]]
    return seen, max(losses, default=0)


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_a_long_runner_wins_while_its_rivals_go_on(seed: int) -> None:
    seen, losses = links_before(seed)
    assert 1 < losses <= LOSSES_BEFORE_RUNNING_ALONE
    assert seen < CHAINS * LINKS


def test_without_reservations_it_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above is one that can fail."""
    for module in (coordinator_state, sending):
        monkeypatch.setattr(module, "LOSSES_BEFORE_RESERVING", 1000)
    monkeypatch.setattr(coordinator_state, "LOSSES_BEFORE_RUNNING_ALONE", 1000)
    _, losses = links_before(4)
    assert losses > LOSSES_BEFORE_RUNNING_ALONE

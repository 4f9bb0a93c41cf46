"""A rank of a test: does a home serve others while its worker computes? For three ranks or more.

Rank 0 stores to a page of rank 2 and commits; that wakes a runner on rank 1, whose commit wakes
the first again: so many rounds go through the home of rank 2, while rank 2 executes one long
runner. The last round looks whether that has ended; it has if the home serves only between runners.
"""

from __future__ import annotations

import sys

from bench.busy_rank import COUNT_HOME, STAMP_HOME, address_at
from bench.placed import ends_all, run_placed
from dvm_mpi import config
from dvm_mpi.control import transport
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.engine.address_space import AddressSpace

ROUNDS = 20
#: Three seconds at least; twenty rounds take a tenth of that on a machine as busy.
STEPS = 400_000_000
PLACES = {"write": 0, "read": 1, "compute": STAMP_HOME}
PROGRAM = """
HAS_ENDED = COUNT + 8           ; what the last round saw of ENDED
ENDED = COUNT + 16
        .private step
        .entry  main
        .text
main:   .runner write, watch=[($COUNT, $8)], heap=[($STAMP, $8)]
        .runner read, watch=[($STAMP, $8)], heap=[($COUNT, $24)]
        .runner compute, heap=[($ENDED, $8)]
        .runner write, heap=[($STAMP, $8), ($COUNT, $8)]
        exit:c
write:  br:ge   COUNT, $ROUNDS, done
        add     STAMP, $1, STAMP
        exit:c
read:   add     COUNT, $1, COUNT
        mov     ENDED, HAS_ENDED
        br:ge   COUNT, $ROUNDS, done
        exit:c
done:   exit:cd
compute:
        add     step, $1, step
        br:l    step, $STEPS, compute
        mov     $1, ENDED
        exit:c
"""


def run_rank() -> None:
    """Be one of the ranks; rank 0 prints what came of it."""
    AddressSpace.shared()
    started = transport.start()
    geometry = Geometry(started.size, config.HOME_BLOCK_PAGES)
    count_at = address_at(geometry, COUNT_HOME)
    defines = {
        "STAMP": address_at(geometry, STAMP_HOME),
        "COUNT": count_at,
        "ROUNDS": ROUNDS,
        "STEPS": STEPS,
    }
    image = assemble_text(PROGRAM, "served.dasm", {key: str(n) for key, n in defines.items()})
    ran = run_placed(started, image, PLACES, plane="auto", memory_bytes=64 * config.MIB)
    if started.rank == 0:
        rounds, had_ended, ended = ran.home_words(count_at, 3).tolist()
        assert rounds == ROUNDS, rounds
        assert ended == 1, "nobody computed"
        sys.stdout.write(
            f"{'served after it computed' if had_ended else 'served while it computed'}\n"
        )
    transport.finish()


if __name__ == "__main__":
    with ends_all():
        run_rank()

"""What replay and rules say of a history that was tampered with: each line of theirs, once.

A sound run is recorded, one fact of it is changed, and the replay must say which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from dvm_mpi.engine.interface import End
from dvm_mpi.sim.history import CreatedRunner, EndedAttempt, History
from dvm_mpi.sim.replay import replay
from tests.sim.machine import ENGINE, Run, program, simulate

WATCHERS, COUNTERS, CHAINS, TRAP = "watchers", "counters", "chains", "trap"


@cache
def sound(name: str) -> Run:
    run = simulate(program(name), 2)
    assert run.differences == []
    return run


def copy_of(history: History) -> History:
    return History(
        dict(history.given),
        dict(history.ended),
        list(history.orders),
        bytearray(history.console),
        dict(history.pages),
        history.failure,
    )


def instances(h: History) -> list[int]:
    """Return the attempts of watchers, first to last."""
    created = [child for ended in h.ended.values() for child in ended.children]
    templates = {child.fact("id") for child in created if child.fact("template")}
    return [n for n, given in sorted(h.given.items()) if given.id in templates]


def losers(h: History) -> list[int]:
    won = {number for number, _ in h.orders}
    return [number for number in sorted(h.ended) if number not in won]


def change(h: History, number: int, **changes: object) -> None:
    h.ended[number] = replace(h.ended[number], **changes)  # type: ignore[arg-type]


def first_with(h: History, wanted: Callable[[EndedAttempt], object]) -> int:
    return next(number for number, _ in h.orders if wanted(h.ended[number]))


# --- tampering ----------------------------------------------------------------------------------
def console_longer(h: History) -> None:
    h.console += b"x"


def byte_of_memory(h: History) -> None:
    page = max(h.pages)
    h.pages[page] = b"\xa5" + h.pages[page][1:]


def page_that_nobody_stored(h: History) -> None:
    h.pages[0x3FF_FFFF] = b"\1" + bytes(4095)


def page_lost(h: History) -> None:
    del h.pages[next(page for page, content in h.pages.items() if any(content))]


def stored_value(h: History) -> None:
    number = first_with(h, lambda e: e.stores)
    (start, length, _), *rest = h.ended[number].stores
    change(h, number, stores=((start, length, bytes(length)), *rest))


def printed_other(h: History) -> None:
    number = first_with(h, lambda e: e.console)
    change(h, number, console=b"?")


def one_instruction_less(h: History) -> None:
    number = first_with(h, lambda e: e.stores)
    change(h, number, instructions=h.ended[number].instructions - 1)


def child_less(h: History) -> None:
    number = first_with(h, lambda e: e.children)
    change(h, number, children=h.ended[number].children[:-1])


def child_of_nobody(h: History) -> None:
    number = first_with(h, lambda e: e.children)
    child = h.ended[number].children[-1]
    stranger = CreatedRunner((1, *child.facts[1:]), child.heap, child.watched, child.image)
    change(h, number, children=(*h.ended[number].children[:-1], stranger))


def snapshot_before_parent(h: History) -> None:
    number = h.orders[1][0]
    h.given[number] = replace(h.given[number], snapshot=1)


def snapshot_of_its_own_epoch(h: History) -> None:
    number, epoch = h.orders[-1]
    h.given[number] = replace(h.given[number], snapshot=epoch)


def other_arguments(h: History) -> None:
    number = next(n for n, given in h.given.items() if given.image)
    h.given[number] = replace(h.given[number], image=())


def larger_grants(h: History) -> None:
    number = next(n for n, given in h.given.items() if n > 1 and given.grants)
    (start, length), *rest = h.given[number].grants
    h.given[number] = replace(h.given[number], grants=((start, length + 1), *rest))


def order_reversed(h: History) -> None:
    h.orders.reverse()


def ordered_twice(h: History) -> None:
    h.orders.append(h.orders[-1])


def winner_forgotten(h: History) -> None:
    """It stored and is not in the order: its runner never ended."""
    h.orders.remove(next(o for o in h.orders[1:] if h.ended[o[0]].stores))


def loser_ordered(h: History) -> None:
    number = losers(h)[0]
    h.orders.append((number, h.orders[-1][1] + 1))


def loser_without_a_rival(h: History) -> None:
    number = losers(h)[0]
    change(h, number, stores=())


def firing_forgotten(h: History) -> None:
    """The last watcher's instances never were: its flag was set, and nobody looked."""
    last = h.given[instances(h)[-1]].id
    for number in [n for n in instances(h) if h.given[n].id == last]:
        del h.given[number], h.ended[number]
        h.orders = [o for o in h.orders if o[0] != number]


def fired_twice_for_one(h: History) -> None:
    number = instances(h)[0]
    copied = max(h.given) + 1
    h.given[copied] = replace(h.given[number], number=copied, runner=999)


def fired_after_deletion(h: History) -> None:
    deleting = next(n for n in instances(h) if h.ended[n].end == End.COMMIT_DELETE)
    copied = max(h.given) + 1
    given = replace(h.given[deleting], number=copied, runner=999, snapshot=h.orders[-1][1])
    h.given[copied] = given


def block_got_twice(h: History) -> None:
    first, second, *_ = [number for number, _ in h.orders if h.ended[number].mallocs]
    change(h, second, mallocs=h.ended[first].mallocs)


def retry_before_what_it_lost_to(h: History) -> None:
    lost = losers(h)[0]
    again = next(n for n in sorted(h.given) if n > lost and h.given[n].id == h.given[lost].id)
    h.given[again] = replace(h.given[again], snapshot=h.given[lost].snapshot)


def loser_for_ever(h: History) -> None:
    lost = losers(h)[0]
    for number in range(max(h.given) + 1, max(h.given) + 8):
        h.given[number] = replace(h.given[lost], number=number)
        h.ended[number] = h.ended[lost]


def trap_of_a_loser(h: History) -> None:
    trapped = next(n for n in losers(h) if h.ended[n].trap >= 0)
    h.given[trapped] = replace(h.given[trapped], snapshot=2)


# fmt: off
TAMPERED = (
    # what is changed            in       what is said
    (console_longer,             COUNTERS, "the console has"),
    (byte_of_memory,             COUNTERS, "holds 0xa5, not"),
    (page_that_nobody_stored,    COUNTERS, "address 0x3ffffff000 holds 0x1, not 0x0"),
    (page_lost,                  COUNTERS, "holds 0x0, not"),
    (stored_value,               COUNTERS, "stores was"),
    (printed_other,              COUNTERS, "console was b'?'"),
    (one_instruction_less,       COUNTERS, "instructions"),
    (child_less,                 COUNTERS, "creates more runners than it did"),
    (child_of_nobody,            COUNTERS, "which no commit created"),
    (snapshot_before_parent,     COUNTERS, "before its parent's commit"),
    (snapshot_of_its_own_epoch,  COUNTERS, "committed at"),
    (other_arguments,            COUNTERS, "was not given what attempt 1 declared"),
    (larger_grants,              COUNTERS, "was not given what attempt 1 declared"),
    (order_reversed,             CHAINS,   "epochs fall"),
    (ordered_twice,              COUNTERS, "an attempt was ordered twice"),
    (winner_forgotten,           COUNTERS, "ended 0 times, not once"),
    (loser_ordered,              COUNTERS, "after its snapshot"),
    (loser_without_a_rival,      COUNTERS, "lost to nobody"),
    (firing_forgotten,           WATCHERS, "slept through commits"),
    (fired_twice_for_one,        WATCHERS, "without a commit since"),
    (fired_after_deletion,       WATCHERS, "fired after its deletion"),
    (block_got_twice,            CHAINS,   "was given out twice"),
    (retry_before_what_it_lost_to, COUNTERS, "which it had lost to"),
    (loser_for_ever,             COUNTERS, "lost 7 times"),
    (trap_of_a_loser,            TRAP,     "trapped, though it had lost"),
)
# fmt: on


@pytest.mark.parametrize(
    ("tamper", "name", "said"), TAMPERED, ids=[tamper.__name__ for tamper, _, _ in TAMPERED]
)
def test_every_line_of_the_checker(tamper: Callable[[History], None], name: str, said: str) -> None:
    history = copy_of(sound(name).history)
    tamper(history)
    differences = replay(history, program(name), ENGINE)
    assert any(said in line for line in differences), differences

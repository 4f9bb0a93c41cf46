"""What the worker relies on, for every engine: batches, misses, parking, leases, the cache."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dvm_mpi.engine.interface import End, Engine, Lease, LeaseKind, Reason, TrapKind
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES, SR_START, TEXT_START
from tests.engine.agreement import ENGINES
from tests.engine.machine import (
    OWN_STACK,
    STACK_BYTES,
    Ended,
    EngineMaker,
    Host,
    Task,
    at,
    batch,
    imm,
    op,
    program,
    run_tasks,
    settings,
    unpack,
    via,
)
from tests.engine.random_programs import random_scene

PAGE = DATA_START // PAGE_BYTES
CELL = 0x2_0000_0010
SUM = 0x2_0000_0018


def pages(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


#: Adds the first words of the data's first four pages into the fifth page.
ADD_PAGES = program(
    *(op("add", at(SUM), at(DATA_START + i * PAGE_BYTES), at(SUM)) for i in range(4)),
    op("mov", at(SUM), at(DATA_START + 4 * PAGE_BYTES)),
    op("exit:c"),
)
WORDS = {DATA_START + i * PAGE_BYTES: i + 1 for i in range(4)}


def test_attempts_of_a_batch_do_not_see_each_other(engine: Engine) -> None:
    # Each adds 1 to a word of shared memory, a word of its stack and a private word.
    cells = [DATA_START, OWN_STACK + 8, 0x1_0000_5000, 0x3_FFFF_FFF8]
    image = program(
        *(op("add", at(cell), imm(1), at(cell)) for cell in cells),
        *(op("add", at(cell), at(DATA_START + 64), at(DATA_START + 64)) for cell in cells),
        op("exit:c"),
    )
    engine.load(image, b"")
    engine.begin(batch([Task(runner=i) for i in range(5)]))
    ended = Host(engine).run()
    assert [e.row["runner"] for e in ended] == list(range(5))
    assert all(e.stored[DATA_START] == 1 and e.stored[DATA_START + 64] == 4 for e in ended)


def test_a_missed_page_is_asked_for_once_and_changes_nothing(engine: Engine) -> None:
    engine.load(ADD_PAGES, b"")
    engine.begin(batch([Task(), Task(runner=2)]))
    host = Host(engine, dict(WORDS))
    first, second = host.run()
    assert host.misses == [PAGE + i for i in range(5)]
    assert first.stored[DATA_START + 4 * PAGE_BYTES] == 10
    assert second.stored == first.stored
    assert first.row["instructions"] == 6


def test_a_page_is_held_as_of_a_snapshot(engine: Engine) -> None:
    data = np.zeros((1, PAGE_BYTES), dtype=np.uint8)
    engine.load(ADD_PAGES, b"")
    engine.install(pages(PAGE), pages(5), pages(9), data)

    def missing(snapshot: int, newest: int) -> bool:
        return len(engine.missing(pages(PAGE), pages(newest), snapshot)) == 1

    # (snapshot, newest commit to the declared bytes): the page was read at 5, known until 9.
    assert not missing(5, 5)
    assert not missing(9, 9)
    assert not missing(20, 9), "nobody stored there since"
    assert missing(20, 10)
    assert missing(4, 3), "a newer page than the snapshot"
    engine.renew(pages(PAGE), pages(20))
    assert not missing(20, 15)
    engine.renew(pages(PAGE), pages(10))
    assert not missing(20, 15), "knowledge does not shrink"
    assert engine.cached_versions(pages(PAGE, PAGE + 1)).tolist() == [5, -1]


def test_pages_without_a_home_are_never_missing(engine: Engine) -> None:
    engine.load(ADD_PAGES, b"")
    homeless = [0x1_0000_0000, TEXT_START, OWN_STACK, 0x3_FFFF_F000]
    numbers = pages(*(address // PAGE_BYTES for address in homeless))
    assert len(engine.missing(numbers, numbers, 1)) == 0


@pytest.mark.parametrize(
    ("start", "until", "is_held"),
    [(0, 3, True), (0, 2, False), (8, 3, True), (8, 2, False)],
)
def test_a_page_must_be_known_until_the_newest_commit_to_it(
    engine: Engine, start: int, until: int, is_held: bool
) -> None:
    # Nobody stored into a page of the declared range after epoch 3; the snapshot is 9.
    engine.load(program(op("mov", at(DATA_START), at(CELL)), op("exit:c")), b"")
    engine.install(pages(PAGE), pages(1), pages(until), np.zeros((1, PAGE_BYTES), np.uint8))
    engine.begin(batch([Task(grants=[(DATA_START - start, PAGE_BYTES, 3)], snapshot=9)]))
    reason = engine.run(100).reason
    assert reason is (Reason.BATCH_DONE if is_held else Reason.PAGE_MISSED)


def test_a_newer_page_does_not_reach_a_running_attempt(engine: Engine) -> None:
    image = program(
        op("mov", at(DATA_START), at(CELL)), op("mov", at(DATA_START), at(CELL)),
        op("mov", at(CELL), at(DATA_START + 8)), op("exit:c"),
    )  # fmt: skip
    engine.load(image, b"")
    engine.begin(batch([Task(snapshot=1)]))
    host = Host(engine, {DATA_START: 7})
    host.answer(engine.run(1))
    assert engine.run(1).reason is Reason.SLICE_ENDED
    newer = np.full((1, PAGE_BYTES), 9, dtype=np.uint8)
    engine.install(pages(PAGE), pages(2), pages(2), newer)
    stop = engine.run(10)
    assert stop.reason is Reason.PAGE_MISSED, "the page of epoch 1 is gone"
    assert stop.instructions == 0
    host.answer(stop)
    (ended,) = host.run()
    assert ended.stored[DATA_START + 8] == 7


def test_slices_change_nothing(maker: EngineMaker) -> None:
    whole, _ = run_tasks(maker, ADD_PAGES, [Task(), Task()], memory=WORDS)
    sliced, host = run_tasks(maker, ADD_PAGES, [Task(), Task()], memory=WORDS, fuel=1)
    assert whole == sliced
    assert host.stops >= 12


def test_exits_say_what_was_executed(engine: Engine) -> None:
    engine.load(program(*[op("nop")] * 9, op("exit:c")), b"")
    engine.begin(batch([Task(), Task()]))
    stops = [engine.run(8) for _ in range(3)]
    assert [s.instructions for s in stops] == [8, 8, 4]
    assert [s.reason for s in stops] == [Reason.SLICE_ENDED, Reason.SLICE_ENDED, Reason.BATCH_DONE]
    assert stops[0].index == 0
    assert stops[1].index == 1


# --- leases -----------------------------------------------------------------------------------
NEWR = program(
    op("newr", imm(0x2_0000_2000), imm(0x2_0000_2000), imm(0x2_0000_2000), imm(0x2_0000_2000)),
    op("mov", at(0x1_0000_0410), at(DATA_START)),
    op("exit:c"),
)


def test_newr_waits_for_an_id_and_then_for_a_stack(engine: Engine) -> None:
    engine.load(NEWR, b"")
    engine.begin(batch([Task()]))
    host = Host(engine)
    host.install([PAGE], until=9)
    kinds = []
    while (stop := engine.run(100)).reason is Reason.LEASE_NEEDED:
        kinds.append(stop.lease)
        assert stop.instructions == 0
        host.answer(stop)
    assert kinds == [LeaseKind.ID, LeaseKind.STACK]
    (ended,) = host.run()
    assert len(ended.children) == 1


def test_an_empty_lease_refuses_one_malloc(engine: Engine) -> None:
    call = [op("mov", imm(100), at(0x1_0000_1000)), op("int", number=0x80)]
    image = program(
        op("mov", imm(1), at(0x1_0000_0420)),
        *call, op("mov", at(0x1_0000_1000), at(DATA_START)),
        *call, op("mov", at(0x1_0000_1000), at(DATA_START + 8)),
        op("exit:c"),
    )  # fmt: skip
    engine.load(image, b"")
    engine.begin(batch([Task()]))
    host = Host(engine)
    host.install([PAGE], until=9)
    stop = engine.run(100)
    assert (stop.lease, stop.lease_bytes) == (LeaseKind.MALLOC, PAGE_BYTES)
    engine.grant_lease(Lease(LeaseKind.MALLOC, 0x2000_0000_0000, 0x2000_0000_0000))
    assert engine.run(100).lease is LeaseKind.MALLOC
    engine.grant_lease(Lease(LeaseKind.MALLOC, 0x2000_0000_0000, 0x2000_0000_1000))
    (ended,) = host.run()
    words = np.array([ended.stored[DATA_START + i] for i in range(16)], np.uint8).view("<i8")
    assert words.tolist() == [0, 0x2000_0000_0000]
    assert ended.mallocs == [(0x2000_0000_0000, 100)]


# --- parking ----------------------------------------------------------------------------------
def test_a_parked_attempt_goes_on_where_it_was(engine: Engine) -> None:
    engine.load(ADD_PAGES, b"")
    engine.begin(batch([Task(), Task(runner=2)]))
    host = Host(engine, dict(WORDS))
    host.answer(engine.run(100))
    host.answer(engine.run(100))
    stop = engine.run(100)
    assert (stop.reason, stop.page, stop.index) == (Reason.PAGE_MISSED, PAGE + 2, 0)
    handle = engine.park()
    while (stop := engine.run(100)).reason is not Reason.BATCH_DONE:
        assert stop.index == 1
        host.answer(stop)
    engine.unpark(handle)
    second, first = host.run()
    assert (second.row["runner"], first.row["runner"]) == (2, 1)
    assert first.stored == second.stored
    assert first.row["instructions"] == second.row["instructions"]


def test_a_parked_attempt_keeps_its_view_of_pages_that_went_on(engine: Engine) -> None:
    """It stored to a page; meanwhile the rank reads a newer version of it for others."""
    image = program(
        op("mov", imm(1), at(DATA_START)),
        op("mov", at(PAGE * PAGE_BYTES + PAGE_BYTES), at(CELL)),
        op("mov", at(DATA_START + 8), at(DATA_START + 16)),
        op("exit:c"),
    )
    engine.load(image, b"")
    tasks = [Task(), Task(runner=2, snapshot=2)]
    engine.begin(batch(tasks))
    host = Host(engine, {DATA_START + 8: 7})
    host.answer(engine.run(100))
    assert engine.run(100).page == PAGE + 1
    handle = engine.park()
    host.memory[DATA_START + 8] = 8
    host.version = 2
    host.install([PAGE], until=2)
    (newer,) = host.run()
    assert newer.stored[DATA_START + 16] == 8
    engine.unpark(handle)
    host.version = 1
    (older,) = host.run()
    assert older.stored[DATA_START + 16] == 7
    assert engine.cached_versions(pages(PAGE)).tolist() == [2]
    # Nothing of the parked attempt is left in the page.
    engine.begin(batch([Task(runner=3, snapshot=2)]))
    (last,) = host.run()
    assert last.stored[DATA_START + 16] == 8


@pytest.mark.parametrize("seed", range(40))
def test_parking_and_small_caches_change_nothing(maker: EngineMaker, seed: int) -> None:
    """Attempts are parked at random stops and run interleaved, with room for few pages."""
    scene = random_scene(10_000 + seed)
    calm, _ = run_tasks(
        ReferenceEngine, scene.image, scene.tasks, memory=scene.memory, stdin=scene.stdin,
        **scene.changes,
    )  # fmt: skip
    rng = random.Random(seed)
    engine = maker(settings(cache_bytes=2 * PAGE_BYTES, **scene.changes))
    engine.load(scene.image, scene.stdin)
    engine.begin(batch(scene.tasks))
    host = Host(engine, scene.memory)
    parked: list[int] = []
    for _ in range(100_000):
        stop = engine.run(rng.choice([1, 3, 50]))
        is_done = stop.reason is Reason.BATCH_DONE
        if is_done and not parked:
            break
        if not is_done:
            host.answer(stop)
        if not is_done and (len(parked) < 2 and rng.random() < 0.5):
            parked.append(engine.park())
        elif is_done:
            engine.unpark(parked.pop(rng.randrange(len(parked))))
    ended = sorted(unpack(engine.take_outcomes()), key=lambda e: e.row["runner"])
    engine.close()
    assert [without_addresses(e) for e in ended] == [without_addresses(e) for e in calm]


def without_addresses(ended: Ended) -> object:
    """Leave out what leases give, which depends on the order of the attempts."""
    if ended.children or ended.mallocs or ended.row["trap"] >= 0:
        return (ended.row["runner"], ended.row["end"], ended.row["instructions"], ended.console)
    return ended


# --- the cache --------------------------------------------------------------------------------
def test_the_cache_keeps_to_its_limit(maker: EngineMaker) -> None:
    engine = maker(settings(cache_bytes=8 * PAGE_BYTES))
    engine.load(ADD_PAGES, b"")
    for first in range(0, 40, 4):
        numbers = pages(*range(PAGE + first, PAGE + first + 4))
        ones = np.ones(4, dtype=np.int64)
        engine.install(numbers, ones, ones, np.ones((4, PAGE_BYTES), dtype=np.uint8))
    versions = engine.cached_versions(pages(*range(PAGE, PAGE + 40)))
    assert versions.tolist() == [-1] * 32 + [1] * 8
    engine.close()


def test_a_scan_keeps_to_the_limit(maker: EngineMaker) -> None:
    """Each instruction of a long attempt misses a page; those of earlier ones may go."""
    engine = maker(settings(cache_bytes=8 * PAGE_BYTES))
    engine.load(ADD_PAGES, b"")
    engine.begin(batch([Task(runner=runner) for runner in range(4)]))
    host = Host(engine, dict(WORDS))
    numbers = pages(*range(PAGE + 10, PAGE + 17))
    ones = np.ones(len(numbers), dtype=np.int64)
    while (stop := engine.run(100)).reason is not Reason.BATCH_DONE:
        host.answer(stop)
        # Read ahead: after each miss room is left for no page of the misses before.
        engine.install(numbers, ones, ones, np.zeros((len(numbers), PAGE_BYTES), dtype=np.uint8))
        numbers += len(numbers)
        held = engine.cached_versions(pages(*range(PAGE, PAGE + 200)))
        assert (held >= 0).sum() <= 8 + 1
    assert len(unpack(engine.take_outcomes())) == 4
    engine.close()


def test_an_instruction_that_needs_more_pages_than_the_cache_holds_ends(maker: EngineMaker) -> None:
    """`newr` reads descriptors of 20 pages with a cache of two."""
    count = 20 * PAGE_BYTES // 16
    image = program(
        op("mov", imm(DATA_START), at(CELL)),
        op("newr", imm(DATA_START - 8 + 8 * 512 * 64), at(CELL), at(CELL), at(CELL)),
        op("exit:c"),
    )
    memory = dict(enumerate(count.to_bytes(8, "little"), DATA_START))
    ended, host = run_tasks(maker, image, [Task()], memory=memory, cache_bytes=2 * PAGE_BYTES)
    assert ended[0].row["child_count"] == 1
    assert len(host.misses) < 60


def test_long_strings_go_through_a_small_cache(maker: EngineMaker) -> None:
    a, b = DATA_START, DATA_START + 40 * PAGE_BYTES + 100
    length = 30 * PAGE_BYTES
    image = program(
        op("strcmp", imm(a), imm(length), imm(b), imm(length), at(CELL)),
        op("exit:c"),
    )
    memory = {b + length - 1: 1}
    ended, host = run_tasks(maker, image, [Task()], memory=memory, cache_bytes=2 * PAGE_BYTES)
    assert ended[0].row["instructions"] == 31
    assert len(host.misses) < 150


# --- random bytes -----------------------------------------------------------------------------
@pytest.mark.parametrize("first", range(0, 300, 100))
def test_random_flat_images_end_alike(first: int) -> None:
    for seed in range(first, first + 100):
        rng = random.Random(seed)
        image = program(flat=True, tail=rng.randbytes(rng.choice([20, 200, 2000])))
        grants = [(DATA_START, 0x300_0000_0000 - DATA_START, 1)]
        tasks = [Task(TEXT_START, grants)]
        ended = [run_tasks(m, image, tasks, fuel_max=300)[0] for m in ENGINES.values()]
        assert ended[0] == ended[1], seed


def test_any_byte_of_a_flat_image_may_begin_an_instruction(maker: EngineMaker) -> None:
    exit_abort = b"\x06\x40"
    jump_bytes = 10
    texts = {
        End.ABORT: (1, b"\xff" + exit_abort),
        TrapKind.BAD_OPCODE: (0, b"\xff" + exit_abort),
        # The last instruction is cut off; behind the last byte is no text.
        TrapKind.BAD_JUMP: (3, b"\xff" + exit_abort),
    }
    for wanted, (offset, tail) in texts.items():
        target = TEXT_START + jump_bytes + offset
        text = b"\x07\x00" + target.to_bytes(8, "little") + tail
        (ended,), _ = run_tasks(maker, program(flat=True, tail=text), [Task()])
        got = ended.row["trap"] if isinstance(wanted, TrapKind) else ended.row["end"]
        assert got == wanted
    (cut,), _ = run_tasks(maker, program(flat=True, tail=b"\x00\x01\x00"), [Task()])
    assert (cut.row["trap"], cut.row["trap_pc"]) == (TrapKind.BAD_OPCODE, TEXT_START + 1)


def test_a_child_created_in_an_earlier_attempt_is_not_open_to_the_next(maker: EngineMaker) -> None:
    child_stack = 0x1_0000_0400
    image = program(
        op("br:nz", at(0x1_0000_0108), target=2),
        op("exit:a"),
        op("newr", imm(CELL), imm(CELL), imm(CELL), imm(CELL)),
        op("mov", imm(5), via(child_stack, 8)),
        op("exit:c"),
    )
    ended, _ = run_tasks(maker, image, [Task(), Task(runner=2)])
    assert [list(e.children[0].image.values())[:1] for e in ended] == [[5], [5]]
    assert ended[0].children[0].row["stack_base"] != ended[1].children[0].row["stack_base"]
    assert SR_START < ended[0].children[0].row["id"]


def test_an_image_of_the_creator_fills_the_stack(maker: EngineMaker) -> None:
    image = program(
        op("add", at(OWN_STACK + 4094), at(OWN_STACK + 8), at(DATA_START)),
        op("mov", imm(9), at(OWN_STACK + STACK_BYTES - 8)),
        op("exit:c"),
    )
    runs = [(OWN_STACK + 4095, b"\1\2"), (OWN_STACK + 8, b"\7")]
    ended, _ = run_tasks(maker, image, [Task(image=runs), Task()])
    words = [[e.stored[DATA_START + i] for i in range(4)] for e in ended]
    assert words == [[7, 1, 2, 0], [0, 0, 0, 0]]
    assert all(len(e.stored) == 8 for e in ended)

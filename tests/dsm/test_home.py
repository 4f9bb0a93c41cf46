"""A home beside the whole history of its memory, kept as one array of bytes per epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvm_mpi.config import LOCATED_PAGES_TOLD
from dvm_mpi.dsm import page_loops
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import COORDINATOR, Home
from dvm_mpi.dsm.messages import (
    NO_FRAME,
    RUN,
    TOKEN,
    ApplyRequested,
    ArenaReleased,
    DiscardRequested,
    EpochApplied,
    FramesLacking,
    LookupRequested,
    PinsMoved,
    Staged,
    StagingEnded,
)
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES

PAGES = 8
SLICE = 2 * PAGE_BYTES
WORKERS = 3
NONE_HELD = np.empty(0, np.int64)
NO_BYTES = np.empty(0, np.uint8)


def make_home(frame_count=400, home_count=1, index=0):
    arena = np.zeros((WORKERS, SLICE), np.uint8)
    return Home(index, Geometry(home_count, 2), FramePool(reserve_frames(frame_count)), arena)


def apply_event(epoch, *stores, visible=1, pins=()):
    """Build an epoch of in-line stores `(start, bytes)` and staged keys `(worker, serial)`."""
    tokens, runs, data = [], [], b""
    for first, second in stores:
        if isinstance(second, bytes):
            tokens.append((0, 0, 0, len(runs), 1))
            runs.append((first, len(second), len(data)))
            data += second
        else:
            tokens.append((first, second, 1, 0, 0))
    return ApplyRequested(
        epoch,
        visible,
        np.array(pins, np.int64),
        np.array(tokens, TOKEN),
        np.array(runs, RUN),
        np.frombuffer(data, np.uint8),
    )


def stage(home, worker, serial, part, is_last, stores, offset=0):
    """Write a part into the arena, announce it, and spoil the arena once it is released."""
    runs = []
    for start, content in stores:
        home.arena[worker, offset : offset + len(content)] = np.frombuffer(content, np.uint8)
        runs.append((start, len(content), offset))
        offset += len(content)
    actions = home.handle(Staged(worker, serial, part, is_last, np.array(runs, RUN), NO_BYTES))
    assert actions[0] == (worker, ArenaReleased(home.index, serial, part))
    home.arena[worker] = 0xEE
    return actions[1:]


def test_few_pages_that_an_epoch_has_changed_are_located():
    home = make_home(home_count=2, index=1)
    stores = [(page * PAGE_BYTES + 5, b"x") for page in (2, 3)]
    ((_, told),) = home.handle(apply_event(2, *stores))
    frames = home.directory.newest(np.array([2, 3]))[0].tolist()
    assert told.located.tolist() == [(2, 1, frames[0], 2), (3, 1, frames[1], 2)]
    many = [((4 * n + 2) * PAGE_BYTES, b"x") for n in range(LOCATED_PAGES_TOLD + 1)]
    ((_, told),) = home.handle(apply_event(3, *many))
    assert len(told.located) == 0


def applied_epochs(actions):
    assert all(target == COORDINATOR and isinstance(a, EpochApplied) for target, a in actions)
    return [action.epoch for _, action in actions]


def page_bytes(home, page, snapshot):
    return home.read(np.array([page]), snapshot)[0].tobytes()


class History:
    """All memory after every epoch."""

    def __init__(self):
        self.after = {0: np.zeros(PAGES * PAGE_BYTES, np.uint8)}

    def commit(self, epoch, stores):
        memory = self.after[epoch - 1].copy()
        for start, content in stores:
            memory[start : start + len(content)] = np.frombuffer(content, np.uint8)
        self.after[epoch] = memory

    def pages(self, epoch):
        return self.after[epoch].reshape(PAGES, PAGE_BYTES)


def random_stores(random):
    """Stores of one write set, disjoint, sometimes wide enough for whole pages."""
    stores, free_from = [], 0
    for _ in range(int(random.integers(1, 4))):
        start = free_from + int(random.integers(0, 2 * PAGE_BYTES))
        longest = int(random.choice([3, PAGE_BYTES, 3 * PAGE_BYTES]))
        end = min(start + int(random.integers(1, longest + 1)), PAGES * PAGE_BYTES)
        if end > start:
            stores.append((start, random.bytes(end - start)))
        free_from = end
    return stores


class Traffic:
    """Random write sets; the parts of staged ones, and discards of losers, are sent later."""

    def __init__(self, random):
        self.random = random
        self.serial = 0
        self.late = []  # DiscardRequested, or (worker, serial, part, is_last, stores)

    def epoch(self):
        """Return tokens for `apply_event`, and what they store."""
        tokens, stores = [], []
        for _ in range(int(self.random.integers(0, 4))):
            write_set = random_stores(self.random)
            kind = self.random.choice(["in line", "staged", "lost"])
            if kind == "in line":
                tokens += write_set
                stores += write_set
            elif write_set:
                key = self.send_later(write_set)
                if kind == "lost":
                    place = int(self.random.integers(len(self.late) + 1))
                    self.late.insert(place, DiscardRequested(np.array([(*key, 1, 0, 0)], TOKEN)))
                else:
                    tokens.append(key)
                    stores += write_set
        return tokens, stores

    def send_later(self, write_set):
        self.serial += 1
        key = int(self.random.integers(WORKERS)), self.serial
        parts = [
            (start + k, content[k : k + PAGE_BYTES])
            for start, content in write_set
            for k in range(0, len(content), PAGE_BYTES)
        ]
        for part, store in enumerate(parts):
            self.late.append((*key, part, part == len(parts) - 1, [store]))
        return key

    def send(self, home, kept):
        """Send what is late, but for `kept` messages; return what the home does then."""
        actions = []
        while len(self.late) > kept:
            event = self.late.pop(0)
            if isinstance(event, DiscardRequested):
                assert home.handle(event) == ()
            else:
                actions += stage(home, *event)
            home.check_invariants()
        return actions


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_whole_history(seed):
    """In-line and staged write sets, losers, late parts, pins that come and go.

    Every pinned snapshot reads what memory was then, at every step, and nothing is kept that no
    pin can ask for.
    """
    random = np.random.default_rng(seed)
    home, history, traffic = make_home(), History(), Traffic(random)
    history.commit(1, [])
    applied, pins = 1, []
    for epoch in range(2, 62):
        tokens, stores = traffic.epoch()
        history.commit(epoch, stores)
        event = apply_event(epoch, *tokens, visible=applied, pins=sorted(set(pins)))
        actions = [*home.handle(event), *traffic.send(home, kept=int(random.integers(0, 4)))]
        applied += len(applied_epochs(actions))
        assert applied == epoch - home.epochs_waiting
        pins = [pin for pin in pins if random.integers(5)]
        pins += [applied] * int(random.integers(2))
        for snapshot in {applied, *pins}:
            assert np.array_equal(home.read(np.arange(PAGES), snapshot), history.pages(snapshot))
    traffic.send(home, kept=0)
    assert home.epochs_waiting == 0
    home.handle(apply_event(62, visible=61, pins=()))
    home.check_invariants()
    assert home.pool.in_use <= PAGES
    assert home._staged_bytes == 0
    assert not home._staged, "every lost write set was dropped"


def test_an_epoch_waits_for_its_staged_bytes_and_later_ones_behind_it():
    """Lookups are answered meanwhile, and know nothing of what waits."""
    home = make_home()
    assert applied_epochs(home.handle(apply_event(2, (0, b"old")))) == [2]
    assert home.handle(apply_event(3, (1, 9), (3, b"!"))) == ()
    assert home.handle(apply_event(4, (0, b"new"))) == ()
    ((worker, answer),) = home.handle(LookupRequested(2, 5, 2, np.array([0, 1]), NONE_HELD))
    assert (worker, answer.ticket, answer.versions.tolist()) == (2, 5, [2, 0])
    assert answer.until.tolist() == [2, 2]
    assert stage(home, 1, 9, 0, False, [(PAGE_BYTES, b"ab")]) == ()
    assert applied_epochs(stage(home, 1, 9, 1, True, [(PAGE_BYTES + 2, b"c")])) == [3, 4]
    assert page_bytes(home, 0, 4)[:4] == b"new!"
    assert page_bytes(home, 1, 3)[:4] == b"abc\0"
    assert page_bytes(home, 0, 2)[:4] == b"old\0"
    home.check_invariants()


def test_a_wait_for_staged_bytes_names_them():
    home = make_home()
    assert home.waits_for == ""
    home.handle(apply_event(3, (1, 9), (3, b"!"), (2, 7), (0, 5), (1, 10)))
    home.handle(apply_event(4, (2, 8)))
    told = "staged write sets of epoch 3: 9 of worker 1, 7 of worker 2, 5 of worker 0, and others"
    assert home.waits_for == told
    stage(home, 2, 7, 0, False, [(0, b"a")])
    assert home.waits_for == told
    stage(home, 2, 7, 1, True, [(8, b"a")])
    stage(home, 1, 9, 0, True, [(16, b"a")])
    told = "staged write sets of epoch 3: 5 of worker 0, 10 of worker 1"
    assert home.waits_for == told


# fmt: off
CONTENT = [
    # pages 0 and 1 are stored at 2, page 0 again at 5; page 2 never
    # snapshot  held          pages that are sent
    (5,         [-1, -1, -1], [0, 1]),
    (5,         [2, -1, -1],  [0, 1]),
    (5,         [5, 2, 0],    []),
    (4,         [2, -1, 0],   [1]),
    (4,         [5, 2, -1],   [0]),
    (5,         [],           []),
]
# fmt: on


@pytest.mark.parametrize(("snapshot", "held", "sent"), CONTENT)
def test_content_goes_with_the_answer_where_it_is_not_held(snapshot, held, sent):
    """Nothing is sent to a worker that does not say what it holds: it reads the frames."""
    home = make_home()
    home.handle(apply_event(2, (0, b"a" * PAGE_BYTES), (PAGE_BYTES, b"b")))
    home.handle(apply_event(5, (0, b"c"), visible=4, pins=(4,)))
    request = LookupRequested(0, 1, snapshot, np.arange(3), np.array(held, np.int64))
    ((_, answer),) = home.handle(request)
    expected = b"".join(page_bytes(home, page, snapshot) for page in sent)
    assert answer.content.tobytes() == expected


def test_staged_bytes_may_come_with_the_part():
    """Without an arena: the runs point into the part's own bytes, which may be dropped after."""
    pool, geometry = FramePool(reserve_frames(40)), Geometry(1, 2)
    home = Home(0, geometry, pool, np.empty((WORKERS, 0), np.uint8))
    data = np.frombuffer(b"abcdef", np.uint8).copy()
    runs = np.array([(0, 2, 3), (PAGE_BYTES, 3, 0)], RUN)
    assert home.handle(Staged(1, 9, 0, True, runs, data)) == ((1, ArenaReleased(0, 9, 0)),)
    data[:] = 0
    home.handle(apply_event(2, (1, 9)))
    assert page_bytes(home, 0, 2)[:3] == b"de\0"
    assert page_bytes(home, 1, 2)[:4] == b"abc\0"


def test_later_write_sets_of_an_epoch_win():
    """The order is that of the tokens, also between staged and in-line ones."""
    home = make_home()
    stage(home, 0, 1, 0, True, [(0, b"aaaaaa")])
    stage(home, 1, 1, 0, True, [(2, b"cccc")])
    home.handle(apply_event(2, (0, 1), (1, b"bbbb"), (1, 1), (3, b"d")))
    assert page_bytes(home, 0, 2)[:6] == b"abcdcc"


def test_a_published_frame_is_never_written_again():
    home = make_home()
    home.handle(apply_event(2, (10, b"first")))
    frames, _, _ = home.directory.lookup(np.array([0]), 2)
    before = home.pool.memory[frames[0]].copy()
    home.handle(apply_event(3, (11, b"X"), visible=2, pins=(2,)))
    assert np.array_equal(home.pool.memory[frames[0]], before)
    assert page_bytes(home, 0, 3)[9:16] == b"\0fXrst\0"


def test_frames_that_were_used_before_read_as_zero_where_nothing_was_stored():
    home = make_home(frame_count=4)
    home.handle(apply_event(2, (0, b"\xff" * PAGE_BYTES)))
    home.handle(apply_event(3, (0, b"\xff" * PAGE_BYTES), visible=2))
    home.handle(apply_event(4, (5 * PAGE_BYTES + 1, b"a"), visible=3))
    assert page_bytes(home, 5, 4) == b"\0a" + bytes(PAGE_BYTES - 2)


def test_a_page_that_is_stored_wholly_needs_no_copy(monkeypatch: pytest.MonkeyPatch):
    """Its bytes may come from many runs; a page with one byte missing is copied."""
    home = make_home()
    home.handle(apply_event(2, (0, b"x" * 2 * PAGE_BYTES)))
    copied: list[int] = []

    def copy_and_note(*arguments: Any) -> None:
        copied.append(page_loops.copy_bases(*arguments))

    monkeypatch.setattr("dvm_mpi.dsm.home.copy_bases", copy_and_note)
    half = b"y" * (PAGE_BYTES // 2)
    home.handle(
        apply_event(
            3,
            (0, half),
            (PAGE_BYTES // 2, half),
            (PAGE_BYTES, half),
            (PAGE_BYTES * 3 // 2, half[1:]),
        )
    )
    assert copied == [1]
    assert page_bytes(home, 0, 3) == half * 2
    assert page_bytes(home, 1, 3) == half + half[1:] + b"x"


# fmt: off
UNTIL = [
    # page 0 stored at 2 and 6, page 1 at 6, page 2 never; applied up to 8, visible 7
    # snapshot   versions     until
    (4,          [2, 0, 0],   [5, 5, 8]),
    (6,          [6, 6, 0],   [8, 8, 8]),
    (8,          [6, 6, 0],   [8, 8, 8]),
    (9,          [6, 6, 0],   [9, 9, 9]),
]
# fmt: on


@pytest.mark.parametrize(("snapshot", "versions", "until"), UNTIL)
def test_how_long_a_page_is_known_unchanged(snapshot, versions, until):
    home = make_home()
    home.handle(apply_event(2, (0, b"a")))
    home.handle(apply_event(6, (0, b"b"), (PAGE_BYTES, b"b"), pins=(4,)))
    home.handle(apply_event(8, (5 * PAGE_BYTES, b"c"), visible=7, pins=(4,)))
    ((_, answer),) = home.handle(LookupRequested(0, 1, snapshot, np.arange(3), NONE_HELD))
    assert answer.versions.tolist() == versions
    assert answer.until.tolist() == until
    assert [frame == NO_FRAME for frame in answer.frames] == [version == 0 for version in versions]


def test_visible_epochs_that_did_not_touch_the_home_are_known():
    home = make_home()
    home.handle(apply_event(2, (0, b"a")))
    home.handle(apply_event(9, (1, 1), visible=7))
    ((_, answer),) = home.handle(LookupRequested(0, 1, 2, np.arange(1), NONE_HELD))
    assert answer.until.tolist() == [7]


def test_a_discard_drops_parts_whenever_they_come():
    home = make_home()
    discard = DiscardRequested(np.array([(1, 5, 1, 0, 0)], TOKEN))
    stage(home, 1, 5, 0, False, [(0, b"a")])
    home.handle(discard)
    home.check_invariants()
    stage(home, 1, 5, 1, True, [(9, b"b")])
    assert not home._staged
    home.handle(discard)
    stage(home, 1, 5, 0, True, [(0, b"a")])
    assert not home._staged
    assert home._staged_bytes == 0


def test_of_a_lost_worker_only_what_records_have_named_is_kept():
    home = make_home()
    stage(home, 1, 5, 0, True, [(0, b"five")])
    stage(home, 1, 6, 0, False, [(0, b"six")])
    home.handle(StagingEnded(1, 5))
    stage(home, 1, 6, 1, True, [(9, b"six")])
    stage(home, 1, 7, 0, True, [(9, b"seven")])
    home.handle(DiscardRequested(np.array([(1, 7, 1, 0, 0)], TOKEN)))
    stage(home, 2, 7, 0, True, [(4, b"!")])
    home.check_invariants()
    assert list(home._staged) == [(1, 5), (2, 7)]
    assert applied_epochs(home.handle(apply_event(2, (1, 5), (2, 7)))) == [2]
    assert page_bytes(home, 0, 2)[:6] == b"five!\0"


def test_loading_and_reading():
    home = make_home(home_count=2, index=1)
    contents = np.arange(PAGE_BYTES + 10, dtype=np.int64).astype(np.uint8)
    home.load(1, 2, contents)
    home.load(1, 2, np.full(3, 7, np.uint8))
    frames, versions, _ = home.directory.lookup(np.array([2, 3]), 1)
    assert versions.tolist() == [1, 1]
    assert frames[1] == frames[0] + 1
    assert home.read(np.array([3, 6, 2]), 1)[:, :5].tolist() == [
        [0, 1, 2, 3, 4],
        [0] * 5,
        [7, 7, 7, 3, 4],
    ]
    assert not home.read(np.array([3]), 1)[0, 10:].any()
    assert not home.read(np.array([2]), 0).any()
    home.check_invariants()
    with pytest.raises(AssertionError, match="another home"):
        home.load(1, 4, contents[:9])


def test_a_full_home_says_so_and_loses_nothing():
    home = make_home(frame_count=2, home_count=8, index=5)
    start = 10 * PAGE_BYTES
    home.handle(apply_event(2, (start, b"x" * 2 * PAGE_BYTES)))
    told = r"a home is full: at home 5, 0\.01 MiB of 0\.01 MiB .* 0\.00 MiB more .*--memory"
    with pytest.raises(LimitError, match=told):
        home.handle(apply_event(3, (start, b"y"), visible=1))
    assert page_bytes(home, 10, 2)[:1] == b"x"


def pins_moved(visible, *pins):
    return PinsMoved(visible, np.array(pins, np.int64))


def test_an_epoch_waits_for_the_frames_that_an_old_snapshot_holds():
    """It asks once to be told of the pins; later epochs wait behind it, lookups do not."""
    home = make_home(frame_count=3)
    for epoch in (2, 3):
        home.handle(apply_event(epoch, (0, b"%d" % epoch), visible=epoch - 1, pins=[1]))
    home.handle(apply_event(4, (0, b"4"), visible=3, pins=[2, 3]))
    lacking = home.handle(apply_event(5, (0, b"5"), visible=3, pins=[2, 3]))
    assert lacking == ((COORDINATOR, FramesLacking(0, 5, 1)),)
    assert home.waits_for == "1 free frames for epoch 5"
    assert home.handle(apply_event(6, (9, b"6"), visible=3, pins=[2, 3])) == ()
    assert home.handle(pins_moved(4, 2, 3)) == ()
    home.check_invariants()
    assert page_bytes(home, 0, 2)[:1] == b"2"
    applied = home.handle(pins_moved(4, 3))
    assert [type(message) for _, message in applied] == [EpochApplied, FramesLacking]
    assert applied[1][1].epoch == 6
    assert applied_epochs(home.handle(pins_moved(5))) == [6]
    assert page_bytes(home, 0, 6)[:10] == b"5" + b"\0" * 8 + b"6"


def test_staged_bytes_may_be_those_that_lack_frames():
    home = make_home(frame_count=2)
    home.handle(apply_event(2, (0, b"2"), pins=[1]))
    home.handle(apply_event(3, (0, b"3"), visible=2, pins=[2]))
    assert home.handle(apply_event(4, (1, 9), visible=2, pins=[2])) == ()
    assert stage(home, 1, 9, 0, True, [(5, b"4")]) == ((COORDINATOR, FramesLacking(0, 4, 1)),)
    assert applied_epochs(home.handle(pins_moved(3))) == [4]
    assert page_bytes(home, 0, 4)[:6] == b"3\0\0\0\0" + b"4"


@pytest.mark.parametrize("frames", [3, 4])
def test_when_waiting_cannot_help_the_error_names_the_sizes(frames):
    """Without any old snapshot there is one version of two pages, and two more are needed."""
    home = make_home(frame_count=frames)
    home.handle(apply_event(2, (0, b"a"), (PAGE_BYTES, b"b"), pins=[1]))
    home.handle(apply_event(3, (0, b"c"), visible=2, pins=[2]))
    both = apply_event(4, (0, b"d"), (PAGE_BYTES, b"e"), visible=2, pins=[2])
    if frames == 4:
        assert home.handle(both) == ((COORDINATOR, FramesLacking(0, 4, 2)),)
        assert applied_epochs(home.handle(pins_moved(3, 3))) == [4]
    else:
        with pytest.raises(LimitError, match=r"0\.01 MiB of 0\.01 MiB are in use .*--memory"):
            home.handle(both)


def test_staged_bytes_that_can_never_fit_are_refused():
    home = make_home(frame_count=2)
    stage(home, 0, 1, 0, False, [(0, b"x" * 2 * PAGE_BYTES)])
    with pytest.raises(LimitError, match=r"write sets that wait .* at home 0, .*--memory"):
        stage(home, 0, 1, 1, True, [(2 * PAGE_BYTES, b"x")])


def test_an_epoch_out_of_order_is_our_fault():
    home = make_home()
    home.handle(apply_event(3, (0, b"x")))
    with pytest.raises(AssertionError, match="epoch 2 after 3"):
        home.handle(apply_event(2, (0, b"y")))


def test_one_old_snapshot_does_not_keep_the_frames_of_10000_commits():
    """A runner holds its snapshot while others rewrite the same pages again and again."""
    home = make_home(frame_count=6 * PAGES)
    contents = [bytes([k]) * PAGES * PAGE_BYTES for k in range(3)]
    home.handle(apply_event(2, (0, contents[0])))
    for epoch in range(3, 1_003):
        home.handle(
            apply_event(epoch, (0, contents[epoch % 2 + 1]), visible=epoch - 1, pins=(2, epoch - 1))
        )
        assert home.pool.in_use <= 4 * PAGES
    assert page_bytes(home, 3, 2) == contents[0][:PAGE_BYTES]
    assert page_bytes(home, 3, 1_002) == contents[1][:PAGE_BYTES]

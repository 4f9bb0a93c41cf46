"""The commit log: what reaches which home, and when an epoch is visible."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, TOKEN
from dvm_mpi.layout import PAGE_BYTES

NO_PINS = np.empty(0, np.int64)


def log_of(home_count=3, visible=1):
    return CommitLog(Geometry(home_count, block_pages=1), visible)


def write_sets(*sets):
    """Build tokens, runs and data of `(worker, serial, staged, {start: bytes})` write sets."""
    tokens, runs, data = [], [], bytearray(b"\xee" * 5)
    for worker, serial, staged, stores in sets:
        tokens.append((worker, serial, staged, len(runs), len(stores)))
        for start, content in stores.items():
            runs.append((start, len(content), 0 if staged else len(data)))
            data += b"" if staged else content
    return np.array(tokens, TOKEN), np.array(runs, RUN), np.frombuffer(bytes(data), np.uint8)


def stores_of(message):
    """Read a message back as `(worker, serial, staged, {start: bytes})`."""
    told = []
    for worker, serial, staged, first, count in message.tokens.tolist():
        runs = message.runs[first : first + count].tolist()
        told.append(
            (worker, serial, staged, {s: message.data[d : d + n].tobytes() for s, n, d in runs})
        )
    return told


def test_write_sets_are_divided_among_homes_in_commit_order():
    """Runs are cut at blocks; a staged set has a token but no bytes at each home it touches."""
    log = log_of()
    page = PAGE_BYTES
    log.append(
        *write_sets(
            (7, 1, 0, {page - 2: b"abcd", 5 * page: b"z"}),
            (8, 4, 1, {page: b"????", 2 * page: b"??"}),
        )
    )
    log.append(*write_sets((9, 2, 0, {}), (7, 2, 0, {page + 1: b"Q", 3 * page: b"RS"})))
    assert (log.open_epoch, log.open_records, log.open_bytes) == (2, 4, 8)
    log.check_invariants()
    messages = dict(log.close(np.array([1])))
    assert [stores_of(messages[home]) for home in (0, 1, 2)] == [
        [(7, 1, 0, {page - 2: b"ab"}), (7, 2, 0, {3 * page: b"RS"})],
        [(7, 1, 0, {page: b"cd"}), (8, 4, 1, {}), (7, 2, 0, {page + 1: b"Q"})],
        [(7, 1, 0, {5 * page: b"z"}), (8, 4, 1, {})],
    ]
    assert {(m.epoch, m.visible, m.pins.tolist()[0]) for m in messages.values()} == {(2, 1, 1)}
    assert messages[1].data.size == 3, "no byte travels twice, and none of others"
    assert log.is_open_empty
    assert (log.open_epoch, log.open_bytes) == (3, 0)


@pytest.mark.parametrize("home_count", [1, 2, 5])
def test_every_byte_reaches_its_home(home_count):
    """Random write sets, losers between them: replaying the messages gives the winners' bytes."""
    random = np.random.default_rng(home_count)
    log, geometry = log_of(home_count), Geometry(home_count, 1)
    expected, told = {}, {}
    for _ in range(12):
        sets = []
        for serial in range(6):
            starts = sorted(random.choice(40, 3, replace=False) * (PAGE_BYTES // 2))
            sets.append(
                (
                    1,
                    serial,
                    0,
                    {
                        int(s): random.bytes(int(random.integers(1, PAGE_BYTES // 2)))
                        for s in starts
                    },
                )
            )
        tokens, runs, data = write_sets(*sets)
        wins = random.integers(0, 2, 6).astype(bool)
        log.append(tokens[wins], runs, data)
        for (_, _, _, stores), won in zip(sets, wins, strict=True):
            if won:
                expected.update(
                    {s + k: b for s, content in stores.items() for k, b in enumerate(content)}
                )
    for home, message in log.close(NO_PINS):
        for _, _, _, stores in stores_of(message):
            for start, content in stores.items():
                assert geometry.home_of(np.array([start // PAGE_BYTES]))[0] == home
                assert (
                    start // PAGE_BYTES == (start + len(content) - 1) // PAGE_BYTES
                    or home_count == 1
                )
                told.update({start + k: b for k, b in enumerate(content)})
    assert told == expected


def test_epochs_become_visible_in_order():
    """Several in flight, acknowledged out of order, some of them touching no home."""
    random = np.random.default_rng(11)
    log = log_of(home_count=4, visible=1)
    waiting = []
    applied_by = {1: set()}
    for _ in range(300):
        if random.integers(2) or not waiting:
            pages = random.choice(4, int(random.integers(0, 4)), replace=False)
            log.append(*write_sets((0, 0, 0, {int(p) * PAGE_BYTES: b"x" for p in pages})))
            epoch = log.open_epoch
            homes = [home for home, _ in log.close(NO_PINS)]
            assert homes == sorted(int(p) for p in pages)
            applied_by[epoch] = set(homes)
            waiting += [(home, epoch) for home in homes]
        else:
            home, epoch = waiting.pop(int(random.integers(len(waiting))))
            applied_by[epoch].remove(home)
            assert log.applied(home, epoch) == log.visible
        log.check_invariants()
        unapplied = [epoch for epoch, homes in applied_by.items() if homes]
        assert log.visible == min(unapplied, default=log.open_epoch) - 1
        assert log.epochs_in_flight == log.open_epoch - 1 - log.visible
        assert log.homes_awaited() == {e: tuple(sorted(h)) for e, h in applied_by.items() if h}


def test_an_epoch_that_touches_no_home_is_visible_at_once():
    log = log_of(visible=1)
    log.append(*write_sets((3, 1, 0, {})))
    assert log.open_records == 1
    assert log.close(NO_PINS) == ()
    assert log.visible == 2
    assert log.close(NO_PINS) == ()
    assert log.visible == 3


def test_a_second_acknowledgement_is_our_fault():
    log = log_of()
    log.append(*write_sets((3, 1, 0, {0: b"x"})))
    log.close(NO_PINS)
    log.applied(0, 2)
    with pytest.raises(AssertionError, match="home 0 acknowledged epoch 2"):
        log.applied(0, 2)


def test_losers_are_discarded_where_they_were_staged():
    log = log_of()
    tokens, runs, _ = write_sets(
        (7, 1, 0, {0: b"in line"}), (8, 4, 1, {0: b"??", 2 * PAGE_BYTES: b"??"})
    )
    told = [
        (home, message.tokens[["worker", "serial"]].tolist())
        for home, message in log.discard(tokens, runs)
    ]
    assert told == [(0, [(8, 4)]), (2, [(8, 4)])]
    assert log.is_open_empty


def test_the_callers_arrays_are_copied():
    log = log_of(home_count=1)
    tokens, runs, data = write_sets((7, 1, 0, {0: b"abc"}))
    data = data.copy()
    log.append(tokens, runs, data)
    log.append(tokens, runs, data)
    data[:] = 0
    ((_, message),) = log.close(NO_PINS)
    assert [stores for *_, stores in stores_of(message)] == [{0: b"abc"}, {0: b"abc"}]
    assert tokens["run_first"].tolist() == [0]

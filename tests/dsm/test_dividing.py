"""How compiled loops lay out what homes get, beside lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.dsm.commit import CommitLog, for_homes
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, TOKEN, AppliesRequested, ApplyRequested
from dvm_mpi.layout import PAGE_BYTES
from tests.properties import tried

STORES = st.dictionaries(st.integers(0, 40), st.integers(1, 3 * PAGE_BYTES), max_size=4)
#: Whether a write set is staged, and its stores: page and length.
WRITE_SETS = st.lists(st.tuples(st.booleans(), STORES), max_size=6)


@tried(60)
@given(homes=st.integers(1, 5), calls=st.lists(WRITE_SETS, min_size=1, max_size=3))
def test_homes_get_what_a_list_gives_them(homes: int, calls: list[Any]) -> None:
    geometry = Geometry(homes, block_pages=2)
    log = CommitLog(geometry, 1)
    #: By home: tokens in order, each with its pieces.
    model: dict[int, list[tuple[int, int, list[tuple[int, bytes]]]]] = {}
    serial = 0
    for write_sets in calls:
        tokens, runs, data = [], [], bytearray()
        for is_staged, stores in write_sets:
            serial += 1
            tokens.append((3, serial, int(is_staged), len(runs), len(stores)))
            for page, length in sorted(stores.items()):
                content = bytes((serial + k) % 251 for k in range(length))
                start = page * PAGE_BYTES + 8
                runs.append((start, length, -1 if is_staged else len(data)))
                data += b"" if is_staged else content
                while content:
                    # One home has everything, in one piece.
                    end = (start // geometry.block_bytes + 1) * geometry.block_bytes
                    end = end if homes > 1 else start + len(content)
                    home = start // geometry.block_bytes % homes
                    piece, content = content[: end - start], content[end - start :]
                    told = model.setdefault(home, [])
                    if not told or told[-1][0] != serial:
                        told.append((serial, int(is_staged), []))
                    if not is_staged:
                        told[-1][2].append((start, piece))
                    start = end
        log.append(
            np.array(tokens, TOKEN), np.array(runs, RUN), np.frombuffer(bytes(data), np.uint8)
        )
    log.check_invariants()
    messages = dict(log.close(np.empty(0, np.int64)))
    found = {
        home: [
            (serial, staged, [
                (start, message.data[at : at + length].tobytes())
                for start, length, at in message.runs[first : first + count].tolist()
            ])
            for _, serial, staged, first, count in message.tokens.tolist()
        ]
        for home, message in messages.items()
    }  # fmt: skip
    assert found == model


def told(message: ApplyRequested) -> list[Any]:
    """Return all that a home is told: numbers of the epoch, tokens, and each one's stores."""
    return [
        (message.epoch, message.visible, message.pins.tolist()),
        *(
            (worker, serial, staged, [
                (start, message.data[at : at + length].tobytes())
                for start, length, at in message.runs[first : first + count].tolist()
            ])
            for worker, serial, staged, first, count in message.tokens.tolist()
        ),
    ]  # fmt: skip


@tried(60)
@given(
    leaders=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    calls=st.lists(WRITE_SETS, min_size=1, max_size=3),
)
def test_homes_get_the_same_through_those_who_lead_them(
    leaders: list[int], calls: list[Any]
) -> None:
    """Whoever leads several homes is told all at once, and divides it as the log would have."""
    geometry = Geometry(len(leaders), block_pages=2)
    # The first home of each leader's number leads the others of it.
    receivers = np.array([leaders.index(leader) for leader in leaders])
    direct, led = CommitLog(geometry, 1), CommitLog(geometry, 1, receivers)
    serial = 0
    for write_sets in calls:
        tokens, runs, data = [], [], bytearray()
        for is_staged, stores in write_sets:
            serial += 1
            tokens.append((3, serial, int(is_staged), len(runs), len(stores)))
            for page, length in sorted(stores.items()):
                runs.append((page * PAGE_BYTES + 8, length, -1 if is_staged else len(data)))
                data += b"" if is_staged else bytes((serial + k) % 251 for k in range(length))
        arrays = (
            np.array(tokens, TOKEN), np.array(runs, RUN), np.frombuffer(bytes(data), np.uint8)
        )  # fmt: skip
        for log in (direct, led):
            log.append(*arrays)
            log.check_invariants()
    assert led.open_bytes == direct.open_bytes
    pins = np.array([1])
    expected = {home: told(message) for home, message in direct.close(pins)}  # type: ignore[arg-type]
    found = {}
    for receiver, message in led.close(pins):
        assert isinstance(message, AppliesRequested) == (np.sum(receivers == receiver) > 1)
        if isinstance(message, AppliesRequested):
            found.update({home: told(one) for home, one in for_homes(geometry, message)})
        else:
            found[receiver] = told(message)
    assert found == expected
    assert led.homes_awaited() == direct.homes_awaited()

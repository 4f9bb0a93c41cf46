"""How compiled loops lay out what homes get, beside lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.dsm.commit import CommitLog
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, TOKEN
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
                    end = (start // geometry.block_bytes + 1) * geometry.block_bytes
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

"""Compiled loops over instances of watchers, beside plain ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control import instance_loops
from dvm_mpi.control.lifecycle import RUNNER, Kind, State
from dvm_mpi.dsm.rows import words_of
from tests.properties import tried

#: Which templates of six are woken, some more than once; and which have an instance queued.
WOKEN = st.lists(st.integers(0, 5), max_size=12)
QUEUED = st.sets(st.integers(0, 5))


@tried(60)
@given(WOKEN, QUEUED)
def test_each_template_gets_one_instance_in_order_of_first_mention(
    woken: list[int], queued: set[int]
) -> None:
    table = np.zeros(20, RUNNER)
    table["kind"][:6], table["state"][:6] = Kind.TEMPLATE, State.ARMED
    table["entry"][:6], table["attempt"][:6], table["losses"][:6] = 100 + np.arange(6), 7, 0
    table["queued_instance"][:6] = [19 if template in queued else -1 for template in range(6)]
    before = table.copy()
    room = np.zeros(len(woken), np.int64)
    count = instance_loops.choose(words_of(table), np.array(woken, np.int64), room)
    chosen = room[:count].tolist()
    assert chosen == [template for template in dict.fromkeys(woken) if template not in queued]
    assert (table == before).all(), "to choose changes nothing"

    rows = np.arange(6, 6 + count)
    instance_loops.make(words_of(table), room[:count].copy(), rows)
    for row, template in zip(rows.tolist(), chosen, strict=True):
        made = {"state": State.FREE, "kind": Kind.INSTANCE, "template": template, "attempt": 0}
        expected = before[template].copy()
        for name, value in {**made, "queued_instance": -1, "instances": 0}.items():
            expected[name] = value
        assert table[row] == expected
        assert int(table["queued_instance"][template]) == row
    instances = [int(template in chosen) for template in range(6)]
    assert table["instances"][:6].tolist() == instances


#: Of each ended row: whether it is an instance, and of which template.
ENDED = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=12)


@tried(60)
@given(ENDED, st.sets(st.integers(0, 3)), st.sets(st.integers(0, 3)))
def test_deleted_templates_go_with_their_last_instance(
    ended: list[tuple[bool, int]], deleted: set[int], more: set[int]
) -> None:
    """Those of `more` have an instance that still runs."""
    table = np.zeros(4 + len(ended), RUNNER)
    counts = [sum(is_one and t == template for is_one, t in ended) for template in range(4)]
    for template in range(4):
        table["state"][template] = State.DELETED if template in deleted else State.ARMED
        table["instances"][template] = counts[template] + (template in more)
    for row, (is_instance, template) in enumerate(ended, 4):
        table["kind"][row] = Kind.INSTANCE if is_instance else Kind.ORDINARY
        table["template"][row] = template if is_instance else -1
    last = np.zeros(len(ended), np.int64)
    count = instance_loops.end(words_of(table), np.arange(4, 4 + len(ended)), last)
    gone = [t for t in range(4) if t in deleted and t not in more and counts[t] > 0]
    assert sorted(last[:count].tolist()) == gone
    assert table["instances"][:4].tolist() == [int(template in more) for template in range(4)]

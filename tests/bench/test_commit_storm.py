"""The crowd that plays ranks to a coordinator keeps to what ranks say, and nobody loses."""

from __future__ import annotations

from bench.commit_storm import Stages
from bench.crowd import CHILD_EVERY, WATCHER_EVERY, Crowd

BATCH, MESSAGES = 200, 8


def test_a_small_storm_ends_with_tables_that_agree() -> None:
    crowd = Crowd(batch=BATCH, workers=2)
    crowd.populate(runners=1_000, watchers=50)
    counters = crowd.scheduler.counters
    before = counters.commits, counters.runners, counters.watcher_firings
    stages = Stages()
    stages.watch(crowd)
    for _ in range(MESSAGES):
        crowd.step()
    crowd.check()
    records = BATCH * MESSAGES
    assert counters.commits - before[0] == records
    firings = counters.watcher_firings - before[2]
    assert firings == records // WATCHER_EVERY
    assert counters.runners - before[1] == records // CHILD_EVERY + firings
    assert set(stages.spent_ns) > {"decode", "order", "publish", "dispatch", "encode"}


def test_a_family_is_born() -> None:
    crowd = Crowd(batch=BATCH, workers=2)
    crowd.populate(runners=1_000)
    born = crowd.scheduler.counters.runners
    crowd.receive(crowd.take(crowd.family_buffers(700)))
    crowd.check()
    assert crowd.scheduler.counters.runners - born == 700

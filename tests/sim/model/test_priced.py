"""Time in the model: what steps cost, cores that are shared, naps, adapters, and long runners."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dvm_mpi import config
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.job.predicting import job_of
from dvm_mpi.sim.model.predict import Prediction, predict, slice_bytes_of
from dvm_mpi.sim.model.priced import PricedMachine, Site
from dvm_mpi.sim.model.shapes import make_shape
from tests.sim.model.sites import BETWEEN, FREE, ROUND

LONG = 10 * config.SLICE_FUEL + 7


def empty(
    runners: int, instructions: int, ranks: int, site: Site, *, is_naive: bool = False
) -> Prediction:
    given = {"RUNNERS": runners, "INSTRUCTIONS": instructions, "PARENTS": 1}
    return predict(job_of("empty", make_shape("empty", given)), ranks, site, is_naive=is_naive)


def test_where_all_else_is_free_time_is_that_of_the_instructions() -> None:
    site = Site(FREE, replace(BETWEEN, latency_ns=0.0, byte_ns=0.0), instruction_ns=2.0)
    found = empty(4, LONG, 4, site)
    assert found.executing_s == pytest.approx(found.instructions * 2e-9)
    # One runner each; naps of the idle come before and after.
    assert found.work_s == pytest.approx(LONG * 2e-9, abs=4e-3)


def test_ranks_that_share_a_core_take_turns() -> None:
    alone, shared = (
        empty(4, LONG, 4, Site(FREE, BETWEEN, ranks_per_host=4, cores=cores)) for cores in (4, 1)
    )
    assert shared.work_s == pytest.approx(4 * alone.work_s, rel=0.3)
    assert shared.executing_s == alone.executing_s


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_long_runners_that_are_skipped_through_take_as_long(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    site = Site(ROUND, BETWEEN)
    quick = empty(30, LONG, ranks, site)
    monkeypatch.setattr(PricedMachine, "_coast", lambda *_: False)
    slow = empty(30, LONG, ranks, site)
    assert quick.work_s == pytest.approx(slow.work_s, rel=0.01)
    assert quick.processor_s == pytest.approx(slow.processor_s, rel=0.01)
    assert (quick.commits, quick.instructions) == (slow.commits, slow.instructions)
    assert quick.rank0_deciding == pytest.approx(slow.rank0_deciding, rel=0.05)


def test_the_same_prediction_every_time() -> None:
    site = Site(ROUND, BETWEEN, ranks_per_host=2)
    assert empty(200, 1_000, 8, site) == empty(200, 1_000, 8, site)


def test_a_naive_coordinator_sends_every_runner_by_itself() -> None:
    site = Site(ROUND, BETWEEN)
    usual, naive = (empty(500, 100, 16, site, is_naive=is_naive) for is_naive in (False, True))
    assert naive.commits == usual.commits
    # One there and one back.
    assert naive.messages >= 2 * 500 > 3 * usual.messages
    assert naive.work_s > usual.work_s


def test_bytes_wait_for_the_adapters_that_hosts_share() -> None:
    slow = replace(BETWEEN, byte_ns=1_000.0)
    assert (
        empty(500, 100, 4, Site(ROUND, slow)).work_s
        > empty(500, 100, 4, Site(ROUND, BETWEEN)).work_s
    )


def test_who_is_idle_looks_again_after_a_nap() -> None:
    job = job_of("empty", make_shape("empty", {"RUNNERS": 1}))
    found = predict(job, 2, Site(replace(FREE, nap_extra_ns=1e6), BETWEEN))
    # What goes to an idle rank and back waits for its naps of a millisecond more.
    assert found.work_s > 1e-3


def test_looks_of_idle_ranks_take_time_of_cores_that_they_share() -> None:
    # A look takes as long as the longest nap: each of three idle ranks wants half of a core.
    nap_ns = config.NAP_S_MAX * 1e9
    looking = replace(FREE, steps=FREE.steps | {"idle": (nap_ns,)})
    seconds = {
        cores: empty(1, LONG, 4, Site(looking, BETWEEN, ranks_per_host=4, cores=cores)).work_s
        for cores in (1, 2, 4)
    }
    # The end is looked at after a nap.
    assert seconds[4] == seconds[2] == pytest.approx(LONG * 2.5e-9 + nap_ns / 1e9, rel=0.01)
    # Three halves are more than a core; something is left for who executes all the same.
    assert seconds[1] > 9 * seconds[4]


def test_where_others_have_half_of_the_cores_all_turns_take_twice_as_long() -> None:
    site = Site(ROUND, BETWEEN, ranks_per_host=4, cores=2)
    alone, beside = (empty(40, LONG, 4, replace(site, others_share=share)) for share in (0.0, 0.5))
    assert beside.work_s == pytest.approx(2 * alone.work_s, rel=0.05)
    assert beside.processor_s == pytest.approx(alone.processor_s, rel=0.05)
    assert beside.executing_s == alone.executing_s


def test_with_leaders_rank_0_gets_fewer_buffers() -> None:
    job = job_of("empty", make_shape("empty", {"RUNNERS": 2_000, "INSTRUCTIONS": 100_000}))
    site = Site(ROUND, BETWEEN)
    flat, led = (predict(job, 40, site, leaders=leaders) for leaders in ("none", "auto"))
    assert led.commits == flat.commits
    assert led.rank0_buffers < 0.5 * flat.rank0_buffers
    assert led.leaders == -(-40 // config.LEADER_RANKS) > flat.leaders == 0


def test_rank_0_stops_to_execute_where_decisions_take_most_of_its_time() -> None:
    dear = replace(ROUND, steps=ROUND.steps | {"decide": (5e6, *ROUND.steps["decide"][1:])})
    given = {"RUNNERS": 1_000, "INSTRUCTIONS": 3 * config.SLICE_FUEL, "PARENTS": 1}
    job = job_of("empty", make_shape("empty", given))
    cheap, busy = (predict(job, 6, Site(costs, BETWEEN)) for costs in (ROUND, dear))
    assert cheap.rank0_executing > 0.5
    assert busy.rank0_executing < 0.1


def test_arenas_are_as_in_a_run_unless_all_of_them_are_too_large() -> None:
    # What goes in smaller parts is more messages: for a stencil on 4 ranks 2,016 instead of 1,176.
    assert slice_bytes_of(4) == arena_slice_bytes(4)
    assert slice_bytes_of(16) == arena_slice_bytes(16)
    assert slice_bytes_of(4_096) < arena_slice_bytes(8)


def test_rank_0_executes_what_the_user_says() -> None:
    job = job_of("empty", make_shape("empty", {"RUNNERS": 40, "INSTRUCTIONS": LONG, "PARENTS": 1}))
    site = Site(ROUND, BETWEEN)
    dedicated, shared = (
        predict(job, 4, site, coordinator=choice) for choice in ("dedicated", "shared")
    )
    assert dedicated.rank0_executing == 0 < shared.rank0_executing
    assert dedicated.commits == shared.commits

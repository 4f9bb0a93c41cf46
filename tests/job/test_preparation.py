"""What is compiled at once, and what is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from dvm_mpi import config
from dvm_mpi.dsm.kernels import LIBRARY
from dvm_mpi.job import preparation
from dvm_mpi.job.preparation import Preparation, wait_for_code
from dvm_mpi.native.compilation import Target


class FakeCompilation:
    """Libraries that are there when the test says so."""

    made: list[FakeCompilation] = []  # noqa: RUF012 - all of a test

    def __init__(self, targets: Iterable[Target]) -> None:
        self.missing = [target.name for target in targets]
        self.steps = 0
        self.made.append(self)

    @property
    def is_done(self) -> bool:
        return not self.missing

    @property
    def waits_for(self) -> str:
        return f"the {self.missing[0]} library" if self.missing else ""

    def is_ready(self, name: str) -> bool:
        return name not in self.missing

    def step(self) -> None:
        self.steps += 1

    def close(self) -> None:
        """Nothing is at work."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeCompilation]:
    monkeypatch.setattr(FakeCompilation, "made", [])
    monkeypatch.setattr(preparation, "Compilation", FakeCompilation)
    return FakeCompilation.made


def processors(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(count)))


def test_libraries_are_compiled_at_once_on_several_processors(made, monkeypatch) -> None:
    processors(monkeypatch, 2)
    prepared = Preparation("interp")
    prepared.step()
    assert [(len(each.missing), each.steps) for each in made] == [(1, 1)] * 3
    assert prepared.waits_for.count(" library") == 3
    assert (prepared.is_home_ready, prepared.is_engine_ready) == (False, False)
    made[0].missing.clear()
    made[1].missing.clear()
    assert (prepared.is_home_ready, prepared.is_engine_ready) == (True, False)
    prepared.step()
    assert [each.steps for each in made] == [1, 1, 2], "what is there is not looked for"
    made[2].missing.clear()
    assert prepared.is_engine_ready
    assert prepared.waits_for == ""


def test_one_processor_compiles_what_homes_need_first(made, monkeypatch) -> None:
    processors(monkeypatch, 1)
    prepared = Preparation("interp")
    assert [len(each.missing) for each in made] == [3]
    assert prepared.waits_for == f"the {LIBRARY.name} library"


def test_who_waits_for_code_says_so(made, monkeypatch) -> None:
    processors(monkeypatch, 2)
    monkeypatch.setattr(config, "SILENT_WAIT_S", 0.0)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        for each in made:
            each.missing.clear()

    wait_for_code("interp", tell)
    assert len(told) == 1
    assert told[0].startswith(f"dvm: waiting for the {LIBRARY.name} library, and for the ")


def test_the_reference_needs_no_interpreter(made, monkeypatch) -> None:
    processors(monkeypatch, 2)
    prepared = Preparation("reference")
    assert len(made) == 2
    assert prepared.is_engine_ready

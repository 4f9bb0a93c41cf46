"""How programs end, and what is told about it: outputs, reports, watchers, warnings, limits."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import h5py
import numpy as np
import pytest

from dvm_mpi import __version__, config
from dvm_mpi.control.driver import LocalMachine
from dvm_mpi.errors import EXIT_CODE_MEANINGS, ExitCode
from dvm_mpi.job.local import Run
from dvm_mpi.job.preparation import Preparation
from tests.cli.conftest import Command

HELLO = """\
main:   mov     $'h', console
        mov     $'i', console
        exit:c
"""
#: Adds 1 to each element; the first runner may touch all arrays.
INCREMENT = """\
        .array  points, fd, 4, 3
main:   mov     $points, r1
next:   add:fd  (r1), $1, (r1)
        add     r1, $8, r1
        br:l    r1, $points + points.bytes, next
        mov     $'!', console
        exit:c
"""
#: A watcher over a cell that nobody stores, declared in line 5.
WATCHER = """\
        .bss
        .align  8
cell:   .space  8
        .text
main:   .runner wait, watch=[($cell, $8)]
        exit:c
wait:   exit:cd
"""


# --- a good end --------------------------------------------------------------------------------
def test_output_is_the_programs_and_nothing_else(every_dvm: Command) -> None:
    ended = every_dvm.run(HELLO)
    assert (ended.code, ended.out) == (ExitCode.OK, "hi")
    assert ended.err.startswith(f"dvm {__version__}")
    assert f"p.dasm: {EXIT_CODE_MEANINGS[ExitCode.OK]}" in ended.messages


def test_quiet_leaves_the_output_alone(dvm: Command) -> None:
    ended = dvm.run(HELLO, "--quiet")
    assert (ended.out, ended.err) == ("hi", "")


def test_quiet_does_not_hide_errors(dvm: Command) -> None:
    ended = dvm.run("main: div $1, $0, r1\n", "--quiet")
    assert ended.code == ExitCode.TRAP
    assert ended.messages[0] == "p.dasm:1: trap: division by zero"
    assert "  time " not in ended.err


def test_definitions_reach_the_program(dvm: Command) -> None:
    text = "        .default CHAR, 'a'\nmain: mov $CHAR, console\n        exit:c\n"
    assert dvm.run(text).out == "a"
    assert dvm.run(text, "-D", "CHAR=0x62").out == "b"


def test_arrays_in_and_out(every_dvm: Command) -> None:
    points = np.arange(12.0).reshape(4, 3)
    with h5py.File(every_dvm.folder / "in.h5", "w") as file:
        file["points"] = points
    out = ("--out", "points=out.h5:a/b", "--out", "points=out.npy")
    ended = every_dvm.run(INCREMENT, "--in", "points=in.h5:points", *out)
    assert (ended.code, ended.out) == (ExitCode.OK, "!")
    with h5py.File(every_dvm.folder / "out.h5") as file:
        assert np.array_equal(file["a/b"][...], points + 1)
    assert np.array_equal(np.load(every_dvm.folder / "out.npy"), points + 1)


def test_no_output_is_written_after_a_trap(dvm: Command) -> None:
    """What was there stays, and nothing half written is left beside it."""
    np.save(dvm.folder / "out.npy", np.zeros(1))
    before = (dvm.folder / "out.npy").read_bytes()
    text = INCREMENT.replace("exit:c", "div $1, $0, r1")
    ended = dvm.run(text, "--out", "points=out.npy", "--out", "points=new.h5:p")
    assert (ended.code, ended.out) == (ExitCode.TRAP, "")
    assert (dvm.folder / "out.npy").read_bytes() == before
    assert not (dvm.folder / "new.h5").exists()


def test_an_image_runs_like_its_text(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(HELLO)
    made = dvm("asm", "p.dasm", "-o", "q.dimg")
    assert made.code == ExitCode.OK
    assert made.out.startswith("q.dimg: ")
    assert dvm("check", "q.dimg").code == ExitCode.OK
    ended = dvm("q.dimg", "--engine", "reference", "--stdin", "/dev/null")
    assert (ended.code, ended.out) == (ExitCode.OK, "hi")


def test_disassembly_assembles_to_the_same_image(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(INCREMENT)
    listing = dvm("disasm", "p.dasm")
    assert listing.code == ExitCode.OK
    (dvm.folder / "again.dasm").write_text(listing.out)
    again = dvm("disasm", "again.dasm").out
    assert again == listing.out.replace("p.dasm", "again.dasm")


# --- the report --------------------------------------------------------------------------------
def report_of(dvm: Command) -> dict[str, object]:
    parsed = json.loads((dvm.folder / "run.json").read_text())
    assert isinstance(parsed, dict)
    return parsed


def test_report_of_a_good_end(every_dvm: Command) -> None:
    options = ("--report", "run.json", "--seed", "7", "--workers", "2", "--homes", "3")
    assert every_dvm.run(INCREMENT, *options, "--deterministic").code == ExitCode.OK
    told = report_of(every_dvm)
    expected = {
        "program": "p.dasm", "exit_code": 0, "engine": every_dvm.engine, "seed": 7,
        "deterministic": True, "workers": 2, "homes": 3, "runners": 1, "commits": 1, "retries": 0,
        "aborts": 0, "traps": 0,
        "watcher_firings": 0, "instructions": 1 + 3 * 12 + 2, "bytes_committed": 96,
        "console_bytes": 1,
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    for name in ("work_s", "startup_s", "load_s"):
        seconds = told[name]
        assert isinstance(seconds, float)
        assert seconds > 0
    versions = told["versions"]
    assert isinstance(versions, dict)
    assert versions["dvm"] == __version__
    assert isinstance(told["host"], dict)


def test_report_of_a_trap(dvm: Command) -> None:
    ended = dvm.run("main: div $1, $0, r1\n", "--report", "run.json", "--quiet")
    told = report_of(dvm)
    assert (ended.code, told["exit_code"], told["traps"], told["commits"]) == (5, 5, 1, 0)
    assert told["exit_meaning"] == EXIT_CODE_MEANINGS[ExitCode.TRAP]


def test_running_off_the_end_says_how_to_end(dvm: Command) -> None:
    """The newcomer's commonest mistake: no `exit`. No jump is to blame, nor its target cell."""
    ended = dvm.run("main: mov $1, r1\n")
    assert ended.code == ExitCode.TRAP
    assert "trap: control reached an address where no instruction begins" in ended.messages[0]
    assert any("remedy: end every path with exit or br" in line for line in ended.messages)


# --- watchers that are left --------------------------------------------------------------------
def test_watchers_that_are_left_are_told(every_dvm: Command) -> None:
    ended = every_dvm.run(WATCHER)
    assert ended.code == ExitCode.OK
    at = ended.messages.index("1 watcher was still armed at the end:")
    assert re.fullmatch(
        r"  p\.dasm:5: watcher 0x3d0\w+, which starts at wait \(0x4\w+\), "
        r"watches cell \(0x440000000\) for 8 bytes",
        ended.messages[at + 1],
    )


def test_strict_watchers_makes_it_a_fault(dvm: Command) -> None:
    ended = dvm.run(WATCHER, "--strict-watchers", "--quiet", "--report", "run.json")
    assert ended.code == ExitCode.WATCHERS_LEFT
    assert len(ended.messages) == 2
    assert report_of(dvm)["watchers_left"] == 1


def test_strict_watchers_is_content_when_none_is_left(dvm: Command) -> None:
    store = "        .runner store, heap=[($cell, $8)]\n        exit:c\n"
    text = WATCHER.replace("        exit:c\n", store) + "store:  mov $1, cell\n        exit:c\n"
    ended = dvm.run(text, "--strict-watchers")
    assert ended.code == ExitCode.OK


# --- undeclared accesses -----------------------------------------------------------------------
UNDECLARED = """\
        .bss
        .align  4096
cells:  .space  4096 * 2
        .text
main:   .runner child
        exit:c
child:  mov     $cells, r1
next:   add     (r1), $1, (r1)
        add     r1, $8, r1
        br:l    r1, $cells + 4096, next
        exit:c
"""


def test_undeclared_access_is_told_once_per_instruction(every_dvm: Command) -> None:
    assert every_dvm.run(UNDECLARED).code == ExitCode.TRAP
    ended = every_dvm.run(UNDECLARED, "--undeclared", "allow", "--report", "run.json")
    assert ended.code == ExitCode.OK
    told = [x for x in ended.messages if "warning" in x]
    assert told == [
        "p.dasm:8: warning: undeclared access to cells (0x440000000); "
        "declare the range (--undeclared allow admitted it)"
    ]
    assert report_of(every_dvm)["bytes_committed"] == 4096


def test_undeclared_access_is_told_once_whatever_the_workers(every_dvm: Command) -> None:
    text = """\
        .bss
        .align  4096
cells:  .space  4096 * 4
        .text
main:   .rept   4, i
        .runner child, args=($cells + 4096 * \\i)
        .endr
        exit:c
child:  .arguments r1
        mov     $1, (r1)
        exit:c
"""
    ended = every_dvm.run(text, "--undeclared", "allow", "--workers", "4")
    told = [x for x in ended.messages if "warning" in x]
    assert told == [
        "p.dasm:10: warning: undeclared access to cells (0x440000000); "
        "declare the range (--undeclared allow admitted it)"
    ]


# --- standard input, time ----------------------------------------------------------------------
ECHO = """\
next:   mov     stdin, r1
        br:l    r1, $0, done
        mov     r1, console
        br:j    next
done:   exit:c
"""


def test_standard_input_from_a_file(every_dvm: Command) -> None:
    data = bytes(range(32, 127)).decode() * 50
    (every_dvm.folder / "in.txt").write_text(data)
    assert every_dvm.run(ECHO, "--stdin", "in.txt").out == data


#: Sleeps for 50 ms between two looks at the clock, and prints 1 if that is what it sees.
SLEEP = """\
        .private seconds, nanoseconds
main:   mov     $7, syscall_number
        int     $0x80
        mov     syscall_args + 8, seconds
        mov     syscall_args + 16, nanoseconds
        mov     $2, syscall_number
        mov     $50000, syscall_args
        int     $0x80
        mov     $7, syscall_number
        int     $0x80
        sub     syscall_args + 8, seconds, seconds
        mul     seconds, $1000000000, seconds
        sub     syscall_args + 16, nanoseconds, nanoseconds
        add     seconds, nanoseconds, r1
        br:l    r1, $50000000, bad
        br:g    r1, $49000000000, bad   ; as if the unit were milliseconds
        mov     $'1', console
bad:    exit:c
"""


def test_time_of_writing_is_none_of_the_work(dvm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the report is kept up to date while outputs are written."""
    worked_s: list[float] = []
    write = Run._write_outputs

    def noted(run: Run, *given: Any, **named: Any) -> None:
        worked_s.append(run._times.work_s)
        write(run, *given, **named)

    monkeypatch.setattr(Run, "_write_outputs", noted)
    assert dvm.run(INCREMENT, "--report", "run.json", "--out", "points=o.npy").code == ExitCode.OK
    assert [report_of(dvm)["work_s"]] == worked_s


def test_waiting_for_compiled_code_is_none_of_the_work(
    dvm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a cold cache: the engine is there only after a hundred looks and naps."""
    looks = iter(range(100))
    is_there = property(lambda preparation: next(looks, None) is None)
    monkeypatch.setattr(Preparation, "is_engine_ready", is_there)
    began = time.perf_counter()
    assert dvm.run(INCREMENT, "--report", "run.json").code == ExitCode.OK
    took_s = time.perf_counter() - began
    told = report_of(dvm)
    seconds = [float(str(told[name])) for name in ("compile_s", "load_s", "work_s", "output_s")]
    assert seconds[0] >= 100 * config.NAP_S_MAX
    assert sum(seconds) <= took_s, "nothing is counted twice"


def test_usleep_lets_real_time_pass(every_dvm: Command) -> None:
    ended = every_dvm.run(SLEEP)
    assert (ended.code, ended.out) == (ExitCode.OK, "1")


def test_sleepers_sleep_together(dvm: Command) -> None:
    """A hundred runners that sleep a second each on one worker take far less than a hundred."""
    text = (
        "main:   .rept 100\n        .runner child\n        .endr\n        exit:c\n"
        "child:  mov $2, syscall_number\n        mov $1000000, syscall_args\n        int $0x80\n"
        "        mov $'z', console\n        exit:c\n"
    )
    ended = dvm.run(text, "--report", "run.json")
    assert ended.out == "z" * 100
    work_s = report_of(dvm)["work_s"]
    assert isinstance(work_s, float)
    assert 1.0 <= work_s < 100.0


# --- limits ------------------------------------------------------------------------------------
def test_memory_that_cannot_hold_the_inputs(dvm: Command) -> None:
    np.save(dvm.folder / "in.npy", np.ones(1 << 17))
    text = f"        .array points, fd, {1 << 17}\nmain: exit:c\n"
    ended = dvm.run(text, "--in", "points=in.npy", "--memory", "512K")
    assert ended.code == ExitCode.LIMIT
    assert "the one home needs 1.0 MiB and has 0.5 MiB" in "\n".join(ended.messages)
    assert dvm.run(text, "--in", "points=in.npy", "--memory", "2M").code == ExitCode.OK


def test_memory_that_the_machine_does_not_give(
    dvm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(LocalMachine, "run", refuse)
    ended = dvm.run(HELLO)
    assert ended.code == ExitCode.LIMIT
    assert "this machine's memory does not suffice: Unable to allocate 9 TiB" in ended.err


#: Stores one word into each of 256 pages, from 256 runners.
SPREAD = """\
        .array  none, sq, 1
        .bss
        .align  4096
pages:  .space  256 * 4096
        .text
        .private page_at
main:   mov     $pages, page_at
next:   .runner child, args=(page_at), heap=[(page_at, $4096)]
        add     page_at, $4096, page_at
        br:l    page_at, $pages + 256 * 4096, next
        mov     $'m', console
        exit:c
child:  .arguments page_at
        mov     $1, (page_at)
        exit:c
"""


def test_memory_that_runs_out_while_running(every_dvm: Command) -> None:
    """What was committed before has been printed; the summary is shown, the exit code tells."""
    ended = every_dvm.run(SPREAD, "--memory", "512K", "--out", "none=out.npy")
    assert (ended.code, ended.out) == (ExitCode.LIMIT, "m")
    assert "the shared memory of a home is full" in "\n".join(ended.messages)
    assert f"p.dasm: {EXIT_CODE_MEANINGS[ExitCode.LIMIT]}" in ended.messages
    assert not (every_dvm.folder / "out.npy").exists()
    assert every_dvm.run(SPREAD, "--memory", "4M").code == ExitCode.OK


@pytest.mark.parametrize("homes", [1, 4])
def test_memory_of_a_page_is_enough_for_little(dvm: Command, homes: int) -> None:
    options = ("--homes", str(homes), "--memory", str(4096 * homes))
    assert dvm.run(HELLO, *options).code == ExitCode.OK


def test_malloc_of_more_than_there_is_returns_nothing(every_dvm: Command) -> None:
    text = (
        "main:   mov $1, syscall_number\n        mov $1 << 45, syscall_args\n        int $0x80\n"
        "        add syscall_args, $'0', console\n        exit:c\n"
    )
    assert every_dvm.run(text).out == "0"

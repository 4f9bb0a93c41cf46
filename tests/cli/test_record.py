"""`--record`, `replay`, `--trace-runner` and `--dump`, from the command line in one process."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from dvm_mpi.cli import main
from dvm_mpi.errors import ExitCode
from dvm_mpi.sim.tape import Kind
from tests.cli.conftest import Command, Ended

#: Three children; the first aborts, the second adds to its cell, the third too.
PROGRAM = """\
        .array  cells, sq, 4
        .private i, p
        .text
main:   mov     $cells, p
more:   mov     i, (p)                  ; 0, 1, 2
        .runner child, args=(i, p), heap=[(p, $8)]
        add     p, $8, p
        add     i, $1, i
        br:l    i, $3, more
        exit:c
child:  .arguments i, p
        br:nz   i, go
        exit:a
go:     mul     (p), $3, (p)            ; in its own cell
        mov     $'a':ub, console:ub
        exit:c
"""
TRAPS = """\
        .array  cells, sq, 2
        .text
main:   mov     $7, cells
        .runner child, heap=[cells]
        exit:c
child:  mov     cells, cells + 8
        div     $1, private, r1
        exit:c
        .private private
"""
#: Every runner adds to one counter, so that some lose.
COUNTER = """\
        .array  counter, sq, 1
        .private i
        .text
main:   .runner child, heap=[counter]
        add     i, $1, i
        br:l    i, $6, main
        exit:c
child:  add     counter, $1, counter
        exit:c
"""
SUM = """\
        .array  a, sq, 1000
        .array  total, sq, 1
        .private at
        .text
main:   mov     $a, at
more:   add     total, (at), total
        add     at, $8, at
        br:l    at, $a + 80, more
        mov     $0, a
        exit:c
"""


def replayed(dvm: Command, *words: str) -> Ended:
    return dvm("replay", "r.h5", *words)


# --- the whole ----------------------------------------------------------------------------------
def test_a_run_is_recorded_and_found_good(every_dvm: Command) -> None:
    ended = every_dvm.run(PROGRAM, "--record", "r.h5", "--workers", "3", "--homes", "2")
    assert (ended.code, ended.out) == (ExitCode.OK, "aa")
    verdict = replayed(every_dvm)
    assert (verdict.code, verdict.err) == (ExitCode.OK, "")
    lines = verdict.out.splitlines()
    assert lines[0].startswith("r.h5: p.dasm --engine")
    assert "4 attempts, 4 of them ordered" in lines[0]
    assert lines[1:] == [
        "good: every attempt does again what it did, and all are isolated by snapshots"
    ]


@pytest.mark.parametrize("seed", range(3))
def test_losers_are_executed_again_too(dvm: Command, seed: int) -> None:
    options = ("--workers", "4", "--seed", str(seed), "--record", "r.h5")
    assert dvm.run(COUNTER, *options).code == ExitCode.OK
    table = replayed(dvm, "--list").out
    assert " lost " in table
    assert replayed(dvm).code == ExitCode.OK


SKEW = """
        .bss
        .align  4096
a:      .space  8
        .align  4096
b:      .space  8
        .text
main:   .runner one, heap=[($a, $8), ($b, $8)]
        .runner two, heap=[($a, $8), ($b, $8)]
        exit:c
one:    add     a, $1, b
        exit:c
two:    add     b, $2, a
        exit:c
"""


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_a_run_can_be_measured_against_more_than_it_was_promised(
    dvm: Command, isolation: str
) -> None:
    options = ("--workers", "2", "--isolation", isolation, "--record", "r.h5")
    assert dvm.run(SKEW, *options).code == ExitCode.OK
    assert replayed(dvm).code == ExitCode.OK
    measured = replayed(dvm, "--isolation", "serializable")
    if isolation == "serializable":
        assert measured.code == ExitCode.OK
    else:
        assert measured.code == ExitCode.UNSOUND
        assert "write skew" in measured.out
        assert "loaded 0 at a" in measured.out
        assert "BAD: this run is not what --isolation serializable would allow" in measured.out


def changed_record(dvm: Command, find: bytes, put: bytes) -> Ended:
    """Change bytes of the record, as a fault of the machine would have, and replay it."""
    with h5py.File(dvm.folder / "r.h5", "r+") as file:
        content = file["bytes"][()].tobytes()
        assert find in content
        file["bytes"][...] = np.frombuffer(content.replace(find, put), np.uint8)
    return replayed(dvm)


def test_a_store_that_the_program_does_not_make_is_found(dvm: Command) -> None:
    stored = (123_456_789).to_bytes(8, "little")
    text = "        .array  x, sq, 1\nmain:   mov     $123456789, x\n        exit:c\n"
    assert dvm.run(text, "--record", "r.h5").code == ExitCode.OK
    ended = changed_record(dvm, stored, (123_456_788).to_bytes(8, "little"))
    assert ended.code == ExitCode.UNSOUND
    assert "attempt 1: stores was" in ended.out
    assert ended.out.splitlines()[-1].startswith("BAD: ")


def test_a_record_whose_run_died_is_checked_as_far_as_it_goes(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    with h5py.File(dvm.folder / "r.h5", "r+") as file:
        file["entries"].resize((4,))
    ended = replayed(dvm)
    assert ended.code == ExitCode.OK
    assert "not checked: the end: the record stops before the program ended" in ended.out
    with h5py.File(dvm.folder / "r.h5", "r+") as file:
        kinds = file["entries"]["kind"].tolist()
        file["entries"].resize((kinds.index(Kind.ORDER),))
    assert "1 attempt of which nothing was decided" in replayed(dvm).out
    with h5py.File(dvm.folder / "r.h5", "r+") as file:
        file["entries"].resize((0,))
    assert replayed(dvm).code == ExitCode.OK


def test_inputs_are_known_as_far_as_they_were_loaded(dvm: Command) -> None:
    np.save(dvm.folder / "a.npy", np.arange(1, 1001, dtype="<i8"))
    assert dvm.run(SUM, "--in", "a=a.npy", "--record", "r.h5").code == ExitCode.OK
    ended = replayed(dvm)
    assert ended.code == ExitCode.OK
    assert "not checked: what the files of a held where nobody loaded it" in ended.out
    assert replayed(dvm, "--array", "total").out == "[55]\n"


def test_who_asks_for_the_time_is_believed(dvm: Command) -> None:
    text = (
        "        .array  x, sq, 1\n"
        "main:   mov     $7, syscall_number\n        int     0x80\n"
        "        mov     syscall_args + 8, x\n        exit:c\n"
    )
    dvm.run(text, "--record", "r.h5")
    ended = replayed(dvm)
    assert (ended.code, "1 attempt that asked for the time" in ended.out) == (ExitCode.OK, True)
    alone = replayed(dvm, "--attempt", "1")
    assert alone.code == ExitCode.UNSOUND
    assert "it asks for the time, which the record does not hold" in alone.out


# --- single attempts ----------------------------------------------------------------------------
def test_attempts_are_listed(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    lines = replayed(dvm, "--list").out.splitlines()
    fates = [line[26:37].strip() for line in lines[1:]]
    assert fates[0] == "epoch 2"
    assert sorted(fates[1:]) == ["aborted", "epoch 3", "epoch 3"]
    assert [line.rsplit(maxsplit=1)[-1] for line in lines[1:]] == ["main", *["child"] * 3]


def test_an_attempt_is_traced_by_source_line(every_dvm: Command) -> None:
    every_dvm.run(PROGRAM, "--record", "r.h5")
    ended = replayed(every_dvm, "--runner", "child:3")
    assert ended.code == ExitCode.OK
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[0].endswith("which began at child, on rank 0, as of epoch 2")
    assert "p.dasm:11 child: .arguments i, p" in lines
    assert "p.dasm:12 br:nz i, go i = 2 -> to go" in lines
    assert "p.dasm:14 go: mul (p), $3, (p) cells[2] = 2, 3 -> cells[2] = 6" in lines
    assert "p.dasm:15 mov $'a':ub, console:ub 97 -> prints 'a'" in lines
    assert "p.dasm:16 exit:c ends by exit:c" in lines
    assert "stored 8 bytes at cells[2]: 06 00 00 00 00 00 00 00" in lines
    assert lines[-1] == "it did what was recorded: 6 instructions"


def test_a_trace_can_be_cut(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    whole = replayed(dvm, "--attempt", "1").out
    assert whole.count("p.dasm:7 ") == 3
    only = replayed(dvm, "--attempt", "1", "--lines", "7-8").out
    assert (only.count("p.dasm:7 "), only.count("p.dasm:8 "), only.count("p.dasm:9 ")) == (3, 3, 0)
    first = replayed(dvm, "--attempt", "1", "--lines", "7", "--steps", "1").out
    assert first.count("p.dasm:7 ") == 1
    assert "(2 steps of these lines are not shown" in first
    last = replayed(dvm, "--attempt", "1", "--steps", "-1").out.splitlines()
    assert last[2].startswith("p.dasm:10 ")


def test_a_trap_names_the_command_that_shows_it(dvm: Command) -> None:
    ended = dvm.run(TRAPS, "--record", "r.h5")
    assert ended.code == ExitCode.TRAP
    command = next(line for line in ended.messages if "step by step" in line)
    words = command.partition("python -m dvm_mpi ")[2].split()
    traced = dvm(*words)
    assert traced.code == ExitCode.OK
    assert "trap: division by zero" in traced.out
    assert "stored 8 bytes at cells[1]: 07 00" in traced.out
    assert replayed(dvm).code == ExitCode.OK


def test_a_replay_keeps_to_the_limits_of_the_run(dvm: Command) -> None:
    """Without them the attempt would go on where it trapped, and the replay would differ."""
    text = SUM.replace("1000", "100000").replace("add     at, $8, at", "add     at, $4096, at")
    text = text.replace("$a + 80", "$a + 80000")
    ended = dvm.run(text, "--record", "r.h5", "--runner-memory", "16K")
    assert ended.code == ExitCode.TRAP
    assert "touched before: 4 pages, 16,384 bytes" in ended.err
    assert replayed(dvm).code == ExitCode.OK


def test_a_byte_that_was_not_loaded_must_not_be_needed(dvm: Command) -> None:
    """The record says that an attempt loaded nothing, but its program does."""
    text = "        .array  x, sq, 1\nmain:   add     x, $5, x\n        exit:c\n"
    dvm.run(text, "--record", "r.h5")
    loads = np.array([0x4_4000_0000, 8, 0], "<i8").tobytes()
    with h5py.File(dvm.folder / "r.h5", "r+") as file:
        content = file["bytes"][()].tobytes()
        at = content.rindex(loads)
        file["bytes"][...] = np.frombuffer(
            content[:at] + (0x4_4000_0800).to_bytes(8, "little") + content[at + 8 :], np.uint8
        )
    ended = replayed(dvm, "--attempt", "1")
    assert ended.code == ExitCode.UNSOUND
    assert "needs 8 bytes at 0x440000000 that it did not load then" in ended.out


def test_a_runner_is_traced_while_the_program_runs(dvm: Command) -> None:
    ended = dvm.run(PROGRAM, "--trace-runner", "child:2", "--trace-output", "trace.txt")
    assert ended.code == ExitCode.OK
    trace = (dvm.folder / "trace.txt").read_text()
    assert "which began at child" in trace
    assert "recorded: ordered in epoch 3" in trace
    assert trace.rstrip().endswith("it did what was recorded: 6 instructions")
    shown = dvm.run(PROGRAM, "--trace-runner", "child", "--quiet")
    assert shown.err.count("which began at child") == 3
    runner = shown.err.split("of runner ")[1].split(",")[0]
    assert dvm.run(PROGRAM, "--trace-runner", runner, "--quiet").err.count("attempt ") == 1


# --- arrays -------------------------------------------------------------------------------------
def test_arrays_as_of_any_epoch(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    assert replayed(dvm, "--array", "cells").out == "[0, 3, 6, 0]\n"
    assert replayed(dvm, "--array", "cells", "--epoch", "2").out == "[0, 1, 2, 0]\n"
    assert replayed(dvm, "--array", "cells", "--epoch", "1").out == "[0, 0, 0, 0]\n"
    ended = replayed(dvm, "--array", "cells", "-o", "cells.npy")
    assert ended.out == "cells.npy: cells as of epoch 3, int64 (4,)\n"
    assert np.load(dvm.folder / "cells.npy").tolist() == [0, 3, 6, 0]


@pytest.mark.parametrize(("text", "code"), [(PROGRAM, ExitCode.OK), (TRAPS, ExitCode.TRAP)])
def test_arrays_are_dumped_however_the_program_ends(
    dvm: Command, text: str, code: ExitCode
) -> None:
    ended = dvm.run(text, "--dump", ".", "--out", "cells=out.npy")
    assert ended.code == code
    expected = [0, 3, 6, 0] if code == ExitCode.OK else [7, 0]
    assert np.load(dvm.folder / "cells.npy").tolist() == expected
    assert (dvm.folder / "out.npy").exists() == (code == ExitCode.OK)


# --- what is refused ----------------------------------------------------------------------------
# fmt: off
REFUSED = [
    # words                                            what the message says
    (["--record", "no/r.h5"],                          "there is no folder 'no'; make it first"),
    (["--record", "p.dasm"],                           "is there, and is no record"),
    (["--record", "x.h5", "--out", "cells=x.h5:d"],    "collides with --out cells=x.h5:d"),
    (["--trace-runner", "chold"],                      "no label 'chold' (did you mean 'child'?)"),
    (["--trace-runner", "child:x"],                    "'x' is not a number from 1"),
    (["--trace-output", "t.txt"],                      "nothing is traced"),
    (["--trace-runner", "main", "--trace-output", "no/t"], "--trace-output no/t: there is no f"),
    (["--dump", "no"],                                 "--dump cells=no/cells.npy: there is no"),
    (["--dump", ".", "--out", "cells=cells.npy"],      "this collides with --out cells=cells.npy"),
]
REFUSED_REPLAYS = [
    (["--attempt", "9"],            "the record has attempts 1 to 4"),
    (["--runner", "nobody"],        "the program has no label 'nobody'"),
    (["--runner", "7"],             "no attempt in the record is of it"),
    (["--array", "x"],              "the program declares cells"),
    (["--array", "cells", "--epoch", "9"], "knows epochs 1 (the loaded program) to 3"),
    (["--array", "cells", "-o", "no/x.npy"], "there is no folder 'no'"),
    (["--lines", "9-3"],            "'9-3' is no range of lines"),
    (["--steps", "0"],              "'0' is no number of steps"),
    (["--list", "--attempt", "1"],  "not allowed with argument"),
]
# fmt: on


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=[" ".join(w) for w, _ in REFUSED])
def test_before_the_run(dvm: Command, words: list[str], told: str) -> None:
    ended = dvm.run(PROGRAM, *words)
    assert ended.code in {ExitCode.USAGE, ExitCode.FILE}
    assert told in "\n".join(ended.messages)
    assert ended.out == ""
    assert not (dvm.folder / "x.h5").exists()


def test_replays_that_cannot_be(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    for words, told in REFUSED_REPLAYS:
        ended = replayed(dvm, *words)
        assert ended.code in {ExitCode.USAGE, ExitCode.FILE}, words
        assert told in ended.err, words
        assert ended.out == "", words


def test_files_that_are_no_records(dvm: Command) -> None:
    dvm.run(PROGRAM, "--record", "r.h5")
    path = dvm.folder / "r.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert (replayed(dvm).code, "truncated or damaged" in replayed(dvm).err) == (4, True)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        header = file["sections/header"][()].tobytes().replace(b'"layout": "', b'"layout": "0')
        del file["sections/header"]
        file["sections/header"] = np.frombuffer(header, np.uint8)
    ended = replayed(dvm)
    assert ended.code == ExitCode.FILE
    assert "whose messages differ" in ended.err
    path.unlink()
    assert "there is no file 'r.h5'" in replayed(dvm).err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    assert "replay tree.h5 --runner main --lines 20-30" in capsys.readouterr().out


def test_a_disk_that_is_full_ends_the_run(dvm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("h5py.Dataset.resize", full)
    ended = dvm.run(PROGRAM, "--record", "r.h5")
    assert ended.code == ExitCode.FILE
    told = [line for line in ended.messages if "cannot write" in line]
    assert told == [
        "dvm: error: --record r.h5: cannot write 'r.h5': No space left on device; "
        "free space, or choose another place"
    ]
    assert Path(dvm.folder / "r.h5").exists()

"""What is refused before anything runs: one clear message, an exit code, no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
import pytest

from dvm_mpi.errors import ExitCode
from tests.cli.conftest import Command, Ended

GOOD = "main:   exit:c\n"
#: Two arrays, of which the program stores nothing.
ARRAYS = """\
        .array  points, fd, 4, 3
        .array  labels, sd, 4
main:   exit:c
"""


def text_of(ended: Ended) -> str:
    return "\n".join(ended.messages)


# --- options -----------------------------------------------------------------------------------
# fmt: off
OPTIONS = [
    # words                           what the message says
    (["--isolation", "read"],         "invalid choice: 'read'"),
    (["--conflict-unit", "word"],     "invalid choice: 'word'"),
    (["--engine", "fast"],            "invalid choice: 'fast'"),
    (["--undeclared", "maybe"],       "invalid choice: 'maybe'"),
    (["--fuel", "0"],                 "'0' is not a whole number from 1 to"),
    (["--fuel", "1e6"],               "'1e6' is not a whole number"),
    (["--fuel", "-5"],                "'-5' is not a whole number"),
    (["--runner-memory", "4095"],     "--runner-memory 4095: memory is counted in pages"),
    (["--runner-memory", "much"],     "'much' is not a size"),
    (["--cpu-share", "half"],         "'half' is no share of a core from 0.05 to 1"),
    (["--cpu-share", "0.01"],         "'0.01' is no share of a core"),
    (["--cpu-share", "50"],           "'50' is no share of a core"),
    (["--cpu-share", "nan"],          "'nan' is no share of a core"),
    (["--nice", "-5"],                "'-5' is no niceness from 1 to 19"),
    (["--nice", "0"],                 "lowers the priority of a rank and never raises it"),
    (["--nice", "20"],                "'20' is no niceness from 1 to 19"),
    (["--workers", "0"],              "'0' is not a whole number from 1 to 4,096"),
    (["--homes", "many"],             "'many' is not a whole number"),
    (["--seed", "-1"],                "'-1' is not a whole number"),
    (["--stack", "large"],            "'large' is not a size; write it like 512M"),
    (["--stack", "100"],              "--stack 100: automatic stacks have 8,192 to"),
    (["--stack", "8T"],               "automatic stacks have 8,192 to"),
    (["--memory", "1.5.2G"],          "'1.5.2G' is not a size"),
    (["--memory", "9" * 400],         "is more than any machine has"),
    (["--memory", "1000"],            "--memory 1000 is too small"),
    (["-D", "N"],                     "'N' is not NAME=VALUE"),
    (["-D", "=5"],                    "'=5' is not NAME=VALUE"),
    (["--in", "points"],              "--in points: this is not NAME=FILE:DATASET"),
    (["--out", "points=x.h5:"],       "the dataset is missing after 'x.h5'"),
    (["--out", "points=x.npy:d"],     "leave out ':d'"),
    (["--no-such-option"],            "unrecognized arguments: --no-such-option"),
    (["--repor", "x.json"],           "unrecognized arguments: --repor"),
    (["another.dasm"],                "unrecognized arguments: another.dasm"),
]
# fmt: on


@pytest.mark.parametrize(("words", "told"), OPTIONS, ids=[" ".join(w) for w, _ in OPTIONS])
def test_option_is_refused(dvm: Command, words: list[str], told: str) -> None:
    ended = dvm.run(ARRAYS, *words)
    assert ended.code in {ExitCode.USAGE, ExitCode.LIMIT}
    assert told in text_of(ended)
    assert ended.messages[0].startswith("dvm: error: ")
    assert ended.out == ""


def test_a_misspelt_subcommand(dvm: Command) -> None:
    ended = dvm("chek", "p.dasm")
    assert ended.code == ExitCode.USAGE
    assert ended.messages == [
        "dvm: error: 'chek' is neither a program nor a subcommand; did you mean 'check'?"
    ]
    (dvm.folder / "chek").write_text(GOOD, encoding="utf-8")
    assert dvm("chek", "--stdin", "/dev/null", "--quiet").code == ExitCode.OK


def test_an_option_that_comes_first_is_no_misspelt_subcommand(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(GOOD, encoding="utf-8")
    assert dvm("--report", "run.json", "p.dasm", "--stdin", "/dev/null").code == ExitCode.OK
    assert (dvm.folder / "run.json").exists()


def test_no_program(dvm: Command) -> None:
    ended = dvm()
    assert ended.code == ExitCode.USAGE
    assert ended.messages[-1] == "dvm: error: a program is missing"


@pytest.mark.parametrize("words", [["--help"], ["asm", "--help"], ["check", "--help"]])
def test_help_goes_to_standard_output(dvm: Command, words: list[str]) -> None:
    ended = dvm(*words)
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    assert ended.out.startswith("usage: python -m dvm_mpi")


def test_help_has_examples_that_are_files(dvm: Command) -> None:
    root = Path(__file__).resolve().parents[2]
    examples = [x for x in dvm("--help").out.splitlines() if x.startswith("  python -m dvm_mpi ")]
    assert len(examples) >= 3
    for example in examples:
        program = next(word for word in example.split() if word.endswith(".dasm"))
        assert (root / program).is_file()


# --- programs ----------------------------------------------------------------------------------
def test_all_errors_of_a_program_come_at_once(dvm: Command) -> None:
    """Each with line, column, the line itself, a caret below the fault, and a remedy."""
    ended = dvm.run(
        "main:   mov     $5, r1\n"
        "        addd    r1, $2, r2\n"
        "        br:l    r1, r2, nxt\n"
        "        mov     $300:ub, r3\n"
        "        div     r1, r2\n"
        "next:   exit:c\n"
        "        .array  pts, fd\n"
    )
    assert ended.code == ExitCode.SOURCE
    places = [x.partition(" error: ")[0] for x in ended.messages if x.startswith("p.dasm:")]
    assert places == ["p.dasm:2:9:", "p.dasm:3:25:", "p.dasm:4:17:", "p.dasm:5:17:", "p.dasm:7:24:"]
    assert "p.dasm:3:25: error: 'nxt' is not defined; did you mean 'next'?" in ended.messages
    at = ended.messages.index(
        "p.dasm:2:9: error: 'addd' is not an instruction; did you mean 'add'?"
    )
    assert ended.messages[at + 1 : at + 3] == ["            addd    r1, $2, r2", "            ^~~~"]


@pytest.mark.parametrize("subcommand", [[], ["asm"], ["disasm"], ["check"]])
def test_every_subcommand_reports_errors_alike(dvm: Command, subcommand: list[str]) -> None:
    (dvm.folder / "p.dasm").write_text("main: br:j nowhere\n")
    ended = dvm(*subcommand, "p.dasm")
    assert ended.code == ExitCode.SOURCE
    assert "p.dasm:1:12: error: 'nowhere' is not defined" in text_of(ended)
    assert not (dvm.folder / "p.dimg").exists()


def test_a_branch_into_the_middle_of_an_instruction(dvm: Command) -> None:
    ended = dvm.run("main:   mov $1, r1\n        br:j main + 3\n")
    assert ended.code == ExitCode.SOURCE
    assert (
        "p.dasm:2: error: the branch to 0x400000003 leads into the middle of the instruction "
        in (text_of(ended))
    )


def test_a_definition_that_the_program_does_not_use(dvm: Command) -> None:
    ended = dvm.run("        .default LIMIT, 5\nmain: exit:c\n", "-D", "LIMTI=7")
    assert ended.code == ExitCode.SOURCE
    assert "-D LIMTI" in text_of(ended)
    assert "LIMIT" in text_of(ended).replace("LIMTI", "")


# fmt: off
FILES = [
    # name         content                 code               what the message says
    ("absent.dasm", None,                  ExitCode.FILE,     "cannot be read: No such file"),
    ("empty.bin",   b"",                   ExitCode.SOURCE,   "the flat image is empty"),
    ("empty.dimg",  b"",                   ExitCode.SOURCE,   "it does not begin as one"),
    ("cut.dimg",    b"DVMIMAGE\x01\x00",   ExitCode.SOURCE,   "it is cut off"),
    ("binary.dasm", b"\xff\xfe\x00main:",  ExitCode.FILE,     "it is not UTF-8 text (byte 0)"),
    ("empty.dasm",  b"",                   ExitCode.SOURCE,   "empty.dasm:1:1: error:"),
]
# fmt: on


@pytest.mark.parametrize(("name", "content", "code", "told"), FILES, ids=[f[0] for f in FILES])
def test_file_that_is_no_program(
    dvm: Command, name: str, content: bytes | None, code: ExitCode, told: str
) -> None:
    if content is not None:
        (dvm.folder / name).write_bytes(content)
    ended = dvm(name)
    assert ended.code == code
    assert told in text_of(ended)


def test_a_folder_is_no_program(dvm: Command) -> None:
    ended = dvm(str(dvm.folder))
    assert ended.code == ExitCode.FILE
    assert "Is a directory" in text_of(ended)


def test_a_damaged_image(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(ARRAYS)
    assert dvm("asm", "p.dasm").code == ExitCode.OK
    image = dvm.folder / "p.dimg"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    for words in ([], ["check"], ["disasm"]):
        ended = dvm(*words, "p.dimg")
        assert ended.code == ExitCode.SOURCE
        assert text_of(ended).endswith(
            "p.dimg: not a good image: its bytes have changed; assemble it again"
        )


def test_definitions_for_what_is_assembled_already(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(GOOD)
    dvm("asm", "p.dasm")
    ended = dvm("p.dimg", "-D", "N=5")
    assert ended.code == ExitCode.USAGE
    assert "-D N has no effect" in text_of(ended)


def test_an_image_that_cannot_be_written(dvm: Command) -> None:
    (dvm.folder / "p.dasm").write_text(GOOD)
    for words in (["asm"], ["disasm"]):
        ended = dvm(*words, "p.dasm", "-o", "absent/p.out")
        assert ended.code == ExitCode.FILE
        assert "No such file or directory" in text_of(ended)


# --- arrays ------------------------------------------------------------------------------------
@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return a file with good and bad datasets for `points`."""
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        file["points"] = np.zeros((4, 3))
        file["single"] = np.zeros((4, 3), np.float32)
        file["flat"] = np.zeros(12)
        file["group/inner"] = np.zeros((4, 3))
    path.with_name("cut.h5").write_bytes(path.read_bytes()[:1500])
    path.with_name("notes.txt").write_text("not a number in sight\n")
    return path


# fmt: off
INPUTS = [
    # --in                           code           what the message says
    ("points=in.h5:point",           ExitCode.FILE,  "no dataset 'point' (did you mean 'points'?)"),
    ("points=in.h5:group",           ExitCode.FILE,  "has no dataset 'group'"),
    ("points=in.h5:single",          ExitCode.FILE,  "float32 of shape (4, 3), but the program "),
    ("points=in.h5:flat",            ExitCode.FILE,  "of shape (12,), but the program declares"),
    ("points=absent.h5:points",      ExitCode.FILE,  "there is no file 'absent.h5'"),
    ("points=absent/in.h5:points",   ExitCode.FILE,  "there is no folder 'absent'"),
    ("points=cut.h5:points",         ExitCode.FILE,  "is truncated or damaged"),
    ("points=notes.txt:points",      ExitCode.FILE,  "is not an HDF5 file"),
    ("points=absent.npy",            ExitCode.FILE,  "there is no file 'absent.npy'"),
    ("pionts=in.h5:points",          ExitCode.USAGE, "'pionts' (did you mean 'points'?)"),
]
# fmt: on


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(("given", "code", "told"), INPUTS, ids=[i[0] for i in INPUTS])
def test_input_is_refused(dvm: Command, given: str, code: ExitCode, told: str) -> None:
    ended = dvm.run(ARRAYS, "--in", given)
    assert ended.code == code
    assert told in text_of(ended)
    assert f"--in {given}: " in text_of(ended)


# fmt: off
FAULTS = [
    (["--in", "points=absent.npy"],          ExitCode.FILE),
    (["--out", "labels=absent/o.npy"],       ExitCode.FILE),
    (["--report", "absent/run.json"],        ExitCode.FILE),
    (["--stdin", "absent.txt"],              ExitCode.FILE),
    (["--memory", "4K"],                     ExitCode.LIMIT),
]
# fmt: on


@pytest.mark.parametrize(("words", "code"), FAULTS, ids=[words[0] for words, _ in FAULTS])
def test_faults_are_told_before_anything_is_compiled(
    dvm: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], code: ExitCode
) -> None:
    """A first run compiles for half a minute; who mistyped a name is not to wait for that."""

    def prepare(*_: object, **__: object) -> NoReturn:
        pytest.fail("compiled code was asked for")

    monkeypatch.setattr("dvm_mpi.job.local.Preparation", prepare)
    assert dvm.run(ARRAYS, *words).code == code


@pytest.mark.usefixtures("inputs")
def test_inputs_that_collide(dvm: Command) -> None:
    ended = dvm.run(ARRAYS, "--in", "points=in.h5:points", "--in", "points=in.h5:flat")
    assert ended.code == ExitCode.USAGE
    assert "collides with" in text_of(ended)


@pytest.mark.usefixtures("inputs")
def test_output_is_refused_before_the_run(dvm: Command) -> None:
    program = "        .array points, fd, 4, 3\nmain: mov $'x', console\n        exit:c\n"
    for given, told in (
        ("points=absent/out.h5:p", "there is no folder 'absent'; make it first"),
        ("points=notes.txt:p", "is not an HDF5 file"),
        ("points=in.h5:group", "in.h5' is a group, which would be lost"),
        ("points=.:p", "is not an ordinary file"),
    ):
        ended = dvm.run(program, "--out", given)
        assert (ended.code, ended.out) == (ExitCode.FILE, "")
        assert told in text_of(ended)


@pytest.mark.parametrize("place", ["absent/run.json", "."])
def test_a_report_that_cannot_be_written_is_told_before_the_run(dvm: Command, place: str) -> None:
    ended = dvm.run("main: mov $'x', console\n exit:c\n", "--report", place)
    assert (ended.code, ended.out) == (ExitCode.FILE, "")
    assert f"--report {place}: cannot write it: " in text_of(ended)


def test_a_program_that_never_began_has_no_summary(dvm: Command) -> None:
    """A table of zeros would bury the one message that matters."""
    text = "        .array points, fd, 4, 3\nmain:   exit:c\n"
    ended = dvm.run(text, "--in", "points=absent.npy")
    assert ended.code == ExitCode.FILE
    headline, message = ended.err.splitlines()
    assert headline.startswith("dvm 0.")
    assert message.startswith("dvm: error: --in points=absent.npy: there is no file")


def test_standard_input_that_cannot_be_read(dvm: Command) -> None:
    ended = dvm.run(GOOD, "--stdin", "absent.txt")
    assert ended.code == ExitCode.FILE
    assert "--stdin absent.txt: cannot read it: No such file or directory; name a" in text_of(ended)

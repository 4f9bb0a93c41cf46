"""The wire form: what goes in comes out, and a damaged buffer is refused by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.messages import Dispatched, LeaseRequested
from dvm_mpi.control.wire import _ELEMENTS, _ROWS_OF, MESSAGES, CodecError, decode, encode
from dvm_mpi.dsm.messages import ApplyRequested, EpochApplied

INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def messages(draw: st.DrawFn, cls: type[Any]) -> Any:
    """Draw a message with random numbers and texts, and arrays of random bytes."""
    values: dict[str, Any] = {}
    for field in fields(cls):
        if field.type == "int":
            values[field.name] = draw(INT64)
        elif field.type == "bool":
            values[field.name] = draw(st.booleans())
        elif field.type == "str":
            values[field.name] = draw(st.text(max_size=12))
        else:
            element = _ELEMENTS[field.name]
            size = draw(st.integers(0, 5)) * element.itemsize
            raw = draw(st.binary(min_size=size, max_size=size))
            values[field.name] = np.frombuffer(raw, dtype=element)
    return cls(**values)


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    for field in fields(left):
        mine, other = getattr(left, field.name), getattr(right, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, field.name
            assert mine.tobytes() == other.tobytes(), field.name
        else:
            assert mine == other, field.name
            assert type(mine) is type(other), field.name


@pytest.mark.parametrize("cls", MESSAGES)
@given(data=st.data())
def test_round_trip(cls: type[Any], data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert_equal(decode(encode(message)), message)


@pytest.mark.parametrize("cls", MESSAGES)
@given(data=st.data())
def test_damaged_buffers_are_refused_or_read_never_worse(
    cls: type[Any], data: st.DataObject
) -> None:
    """Cut off, lengthen or overwrite: a message or `CodecError`, and nothing else."""
    buffer = encode(data.draw(messages(cls))).copy()
    kind = data.draw(st.sampled_from(["cut", "lengthen", "bytes", "header"]))
    if kind == "cut":
        buffer = buffer[: data.draw(st.integers(0, len(buffer)))]
    elif kind == "lengthen":
        buffer = np.concatenate([buffer, np.zeros(data.draw(st.integers(1, 99)), np.uint8)])
    elif kind == "bytes":
        for _ in range(data.draw(st.integers(1, 4))):
            buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    else:
        word = data.draw(st.integers(0, len(fields(cls))))
        buffer[8 * word : 8 * word + 8].view("<i8")[:] = data.draw(st.integers(-40, 400) | INT64)
    try:
        message = decode(buffer)
    except CodecError:
        return
    # Whatever was read is a message of its kind, whole: it can be sent on.
    assert_equal(decode(encode(message)), message)


def words(*values: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(values, dtype="<i8").view(np.uint8)


REFUSED = {
    "nothing": (words(), "kind -1 is unknown"),
    "half a word": (words(3)[:5], "kind -1 is unknown"),
    "an unknown kind": (words(99), "kind 99 is unknown"),
    "a negative kind": (words(-1), "kind -1 is unknown"),
    "no fields": (words(2, 0), "LeaseRequested: the header is cut off"),
    "more than a message": (words(2, *[0] * 8), "LeaseRequested: 8 bytes too many"),
    "an array that is cut off": (words(9, 40), "DiscardRequested.tokens: 40 bytes do not fit"),
    "a negative length": (words(9, -8), "DiscardRequested.tokens: -8 bytes do not fit"),
    "half an element": (words(9, 8, 0), "DiscardRequested.tokens: 8 bytes are no whole elements"),
    "neither true nor false": (words(6, 0, 0, 0, 2, 0, 0), "Staged.is_last: 2 is neither"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_message_and_the_field(case: str) -> None:
    buffer, text = REFUSED[case]
    with pytest.raises(CodecError, match=text):
        decode(buffer)


def test_a_text_that_is_no_text_is_refused() -> None:
    finished = [number for number, cls in enumerate(MESSAGES) if cls.__name__ == "Finished"]
    buffer = np.concatenate(
        [words(*finished, *[0] * 10, 1, 0, 0, 0, 0, 0, 0), np.full(8, 0xFF, np.uint8)]
    )
    with pytest.raises(CodecError, match=r"Finished\.traps: not UTF-8"):
        decode(buffer)


def test_arrays_are_not_copied() -> None:
    """A large write set must not be moved about more often than needed."""
    cls = next(cls for cls in MESSAGES if cls.__name__ == "DiscardRequested")
    buffer = encode(cls(np.zeros(3, dtype=_ELEMENTS["tokens"])))
    assert np.shares_memory(decode(buffer).tokens, buffer)


def test_runners_that_one_loop_created_are_a_few_words() -> None:
    """Ids and stacks at equal distances, equal entries and sizes, arguments that count."""
    count, base = 4_096, 0x300_0000_1000
    attempts = np.zeros(count, _ELEMENTS["attempts"])
    rows = np.arange(count)
    attempts["runner"], attempts["id"] = count - rows, 0x3D0_0000_0000 + rows * 4_096
    attempts["entry"], attempts["stack_automatic"] = 0x4_0000_0100, 1
    attempts["stack_base"] = base + rows * 12_288
    attempts["image_first"], attempts["image_count"] = rows, 1
    runs = np.zeros(count, _ELEMENTS["image_runs"])
    runs["start"], runs["length"] = attempts["stack_base"], 24
    runs["data_first"] = rows * 24
    arguments = np.stack([rows, rows * 16 + 7, np.full(count, 3)], axis=1).reshape(-1)
    message = Dispatched(
        12, rows + 100, attempts, np.zeros(0, _ELEMENTS["grants"]), runs, arguments.view(np.uint8)
    )
    buffer = encode(message)
    assert buffer.size < 600
    assert_equal(decode(buffer), message)
    # Content of the shared region stays as it is, whatever it is.
    stored = ApplyRequested.__dataclass_fields__["data"]
    assert stored.name not in _ROWS_OF


def test_numbers_on_the_wire_never_change() -> None:
    names = [cls.__name__ for cls in MESSAGES]
    assert names == [
        "Dispatched", "Finished", "LeaseRequested", "LeaseGranted", "LookupRequested",
        "LookupAnswered", "Staged", "ArenaReleased", "ApplyRequested", "DiscardRequested",
        "EpochApplied", "AsleepChanged", "WorkerReady", "RankLoaded", "RankFailed", "ProgramEnded",
        "RankFinished", "RunEnded", "StatusRequested", "StatusReported", "StagingEnded",
        "PinsMoved", "FramesLacking", "AnswerRequested", "PagesHeld", "Metered",
        "TraceRows",
        "ClockAsked", "ClockAnswered", "Relayed", "GatheredTaken", "EpochsApplied",
        "BatchRecalled", "BatchReturned", "AppliesRequested", "BatchesDealt", "WorkersReady",
        "BlocksMoved", "PagesHanded", "StoresPassed", "CodeShared",
    ]  # fmt: skip
    assert encode(LeaseRequested(4, 5, 6, 7)).view("<i8").tolist() == [2, 4, 5, 6, 7, 1, 0, -1]
    assert encode(EpochApplied(1, 2, 3)).view("<i8").tolist() == [10, 1, 2, 3, 0]

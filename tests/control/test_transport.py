"""Buffers of messages, and naps; what needs other ranks is in tests/mpi/test_transport.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi import config
from dvm_mpi.control import transport
from dvm_mpi.control.messages import LeaseGranted, Message, RankFailed, RankFinished, RunEnded
from dvm_mpi.control.transport import Nap, pack, unpack
from dvm_mpi.control.wire import CodecError

MESSAGES = st.one_of(
    st.builds(RunEnded, st.integers(-(2**63), 2**63 - 1)),
    st.builds(LeaseGranted, st.integers(0, 9), st.integers(0, 2**62), st.integers(0, 2**62)),
    st.builds(RankFinished, st.integers(0, 9), st.text(max_size=30)),
    st.builds(RankFailed, st.integers(0, 9), st.integers(0, 255), st.text(max_size=30)),
)


@settings(max_examples=50)
@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_what_is_packed_is_unpacked(messages: list[Message]) -> None:
    assert unpack(pack(messages)) == messages


@settings(max_examples=100)
@given(st.lists(MESSAGES, min_size=2, max_size=3), st.data())
def test_a_buffer_that_is_cut_off_is_refused(messages: list[Message], data: st.DataObject) -> None:
    """Only a cut between two messages leaves something whole."""
    buffer = pack(messages)
    ends = np.cumsum([pack([message]).size for message in messages])
    length = data.draw(st.integers(1, buffer.size - 1))
    if length in ends:
        assert unpack(buffer[:length]) == messages[: list(ends).index(length) + 1]
    else:
        with pytest.raises(CodecError):
            unpack(buffer[:length])


@pytest.mark.parametrize("length", [0, -8, 2**40])
def test_a_length_that_cannot_be_is_refused(length: int) -> None:
    buffer = pack([RunEnded(0), RunEnded(1)])
    buffer[:8].view(np.int64)[0] = length
    with pytest.raises(CodecError, match="does not fit"):
        unpack(buffer)


def test_naps_grow_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    nap = Nap()
    for _ in range(20):
        nap.sleep()
    assert naps[:3] == [config.NAP_S_MIN, 2 * config.NAP_S_MIN, 4 * config.NAP_S_MIN]
    assert naps[-1] == config.NAP_S_MAX
    nap.end()
    nap.sleep()
    assert naps[-1] == config.NAP_S_MIN


def test_importing_does_not_start_mpi() -> None:
    assert not transport.is_started()
    name, version, place = transport.library()
    assert name
    assert version
    assert place
    assert not transport.is_started()

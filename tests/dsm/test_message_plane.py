"""A data plane that has nothing to do says so, and refuses to do it."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.message_plane import MessagePlane


def test_nothing_moves_beside_the_messages():
    plane = MessagePlane()
    assert plane.carries_content
    assert plane.arrived() == []
    assert plane.waits_for == ""
    with pytest.raises(AssertionError, match="ticket 7: 2 frames of home 3 to be read"):
        plane.read_frames(3, np.arange(2), 7)
    with pytest.raises(AssertionError, match="5 bytes for the arena of home 3 at 64"):
        plane.write_arena(3, 64, np.zeros(5, np.uint8))

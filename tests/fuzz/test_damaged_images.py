"""Random and damaged image files are refused with one message, or are good images after all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.cases import load_damaged
from tests.fuzz.generators import CHUNKS, damaged_file


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_files_that_are_no_images_are_refused(start: int, count: int, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.dimg"
    loaded = [load_damaged(path, damaged_file(seed)) for seed in range(start, start + count)]
    good = [image for image in loaded if image is not None]
    assert 0 < len(good) < count // 3, "damage behind the digest is not looked at, or not refused"

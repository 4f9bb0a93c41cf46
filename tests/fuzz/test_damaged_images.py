"""Random and damaged image files are refused with one message, whatever is wrong with them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import MAGIC, image_bytes, load_image
from dvm_mpi.errors import SourceError
from tests.fuzz.generators import CHUNKS, JOBS, VALID, damaged


@pytest.fixture(scope="module")
def good() -> list[bytes]:
    images: list[Image] = [
        assemble_file(JOBS / name / f"{name}.dasm", defines) for name, defines in VALID
    ]
    return [image_bytes(image) for image in images]


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_files_that_are_no_images_are_refused(
    start: int, count: int, good: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "fuzz.dimg"
    for seed in range(start, start + count):
        rng = random.Random(seed)
        data = rng.choice(good)
        while data in good:
            if seed % 4 == 0:
                data = MAGIC[: rng.randrange(9)] + rng.randbytes(rng.choice([0, 1, 30, 500]))
            else:
                data = damaged(rng, data)
        path.write_bytes(data)
        with pytest.raises(SourceError) as refused:
            load_image(path)
        told = str(refused.value)
        assert told.startswith(f"{path}: not a good image: "), f"seed {seed}"
        assert told.endswith("; assemble it again"), f"seed {seed}"
        assert "\n" not in told, f"seed {seed}"

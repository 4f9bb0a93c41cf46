"""Programs that nobody would write: random bytes, random instructions, damaged programs.

Each is a function of one integer. The tests of this folder try a few hundred, `make fuzz` as many
as there is time for.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import MAGIC, image_bytes
from dvm_mpi.layout import DATA_START, RANGE, STACKS_START, TEXT_START
from tests.engine.machine import program
from tests.engine.random_programs import random_listing

JOBS = Path(__file__).resolve().parents[2] / "jobs"
#: Programs to damage, small enough to be over soon.
VALID = (
    ("hello", {}),
    ("primes", {"LIMIT": "60", "PARTS": "4", "BLOCK": "10"}),
    ("treesum", {"N": "12", "STYLE": "1"}),
    ("treesum", {"N": "12", "STYLE": "2"}),
    ("vectoradd", {"N": "40", "PARTS": "3"}),
    ("kmeans", {"N": "24", "K": "2", "PARTS": "3", "ITERATIONS": "2"}),
)  # fmt: skip
#: Bytes of the digest at the end of an image file.
DIGEST_BYTES = hashlib.sha256().digest_size
#: Cases of one test: small enough that a failure is found again soon, large enough to be few.
CHUNK_CASES = 250
CASES = 500
CHUNKS = [(start, min(CHUNK_CASES, CASES - start)) for start in range(0, CASES, CHUNK_CASES)]


@cache
def valid_image(index: int) -> Image:
    """Return an assembled job without its lines: flat, but for its data and its entry."""
    name, defines = VALID[index]
    return replace(assemble_file(JOBS / name / f"{name}.dasm", defines), lines=None)


def flat(text: bytes) -> Image:
    """Return an image as `load_flat` makes it."""
    span = (DATA_START, STACKS_START - DATA_START)
    return Image(TEXT_START, text, (), np.array([span], dtype=RANGE), source_name="fuzz.bin")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four faults: flipped, replaced, cut out, doubled, moved."""
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(result))
        length = rng.choice([1, 2, 8, 8, 40])
        kind = rng.randrange(6)
        if kind == 0:
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at : at + length] = rng.randbytes(length)
        elif kind == 2 and len(result) > length:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = result[at : at + length]
        elif kind == 4:
            source = rng.randrange(len(result))
            result[at : at + length] = result[source : source + length]
        else:
            result = result[: max(at, 1)]
    return bytes(result)


def random_image(seed: int) -> Image:
    """Return the program of a seed: bytes, instructions, or a damaged job."""
    rng = random.Random(seed)
    kind = seed % 4
    if kind == 0:
        return flat(rng.randbytes(rng.choice([1, 3, 20, 200, 2000])))
    if kind == 1:
        return flat(program(*random_listing(rng), flat=True).text)
    if kind == 2:
        return flat(damaged(rng, program(*random_listing(rng), flat=True).text))
    image = valid_image(rng.randrange(len(VALID)))
    return replace(image, text=damaged(rng, image.text))


@cache
def valid_files() -> tuple[bytes, ...]:
    """Return the jobs as image files."""
    return tuple(
        image_bytes(assemble_file(JOBS / name / f"{name}.dasm", defines)) for name, defines in VALID
    )


def damaged_file(seed: int) -> bytes:
    """Return what is no good image file, or only by chance: noise, or a damaged one.

    Every second damaged one has the digest that it should have, so that what lies behind the digest
    is looked at as well.
    """
    rng = random.Random(seed)
    data = rng.choice(valid_files())
    if seed % 4 == 0:
        return MAGIC[: rng.randrange(9)] + rng.randbytes(rng.choice([0, 1, 30, 500]))
    while data in valid_files():
        data = damaged(rng, data[:-DIGEST_BYTES]) + data[-DIGEST_BYTES:]
    if seed % 2:
        body = data[:-DIGEST_BYTES]
        data = body + hashlib.sha256(body).digest()
    return data

"""Shapes of jobs: which runners there are, what they touch, and how many instructions they have.

A shape stands for a program on data of any size: its runners are made, run, woken and committed
by the machine as those of the program are, but no instruction is executed, and of the data only
flags have content. What runners compute is not in it. `engine.py` runs shapes; `tests/sim/model`
holds them against the programs.

A runner is a kind and a number. Kinds are entries to the machine, numbers the arguments of runners.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.errors import UsageError
from dvm_mpi.layout import DATA_START, PAGE_BYTES, RANGE, TEXT_START, WORD_BYTES, whole_pages
from dvm_mpi.values import dataclass, field

Ints = NDArray[np.int64]

#: Bytes of arguments of every runner that another one creates: about those of the jobs.
ARGUMENT_BYTES: Final = 56
#: Instructions of `.runner`, with its arguments and ranges; of a step of `expect_all`; of those
#: around them. Counted in the jobs' programs.
_RUNNER_INSTRUCTIONS: Final = 15
_EXPECT_INSTRUCTIONS: Final = 3
_FEW_INSTRUCTIONS: Final = 10


class RunnerKind(IntEnum):
    """What a runner does; the entry of the first is the program's."""

    MAIN = 0
    PARENT = 1
    LEAF = 2
    WATCHER = 3

    @property
    def entry(self) -> int:
        """Where such runners begin."""
        return TEXT_START + 8 * self


def kind_of(entry: int) -> RunnerKind:
    """Undo `RunnerKind.entry`."""
    return RunnerKind((entry - TEXT_START) // 8)


@dataclass(frozen=True, slots=True)
class Children:
    """Runners of one kind that an attempt creates, each with as many ranges as the others.

    `numbers` (n,); `heaps` (n, ranges, 2) start and length, and `watched` alike; a child that
    watches is a template.
    """

    kind: RunnerKind
    numbers: Ints
    heaps: Ints
    watched: Ints


@dataclass(frozen=True, slots=True)
class Effect:
    """What one attempt does: its instructions, bytes stored (start, length), children, end.

    `aborts`: nothing else happens. `deletes` its template.
    """

    instructions: int
    stores: list[tuple[int, int]] = field(default_factory=list)
    children: list[Children] = field(default_factory=list)
    aborts: bool = False
    deletes: bool = False


class Shape(Protocol):
    """A job, as its runners look to the machine.

    Addresses are those of `image`. `flags` is the range whose content counts, as (start, length).
    """

    @property
    def image(self) -> Image:
        """The program: nothing but its ranges."""

    @property
    def flags(self) -> tuple[int, int]:
        """The bytes whose content counts."""

    @property
    def loaded(self) -> tuple[int, int]:
        """The bytes that are loaded before the start."""

    def leaves(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the instructions of leaves (n,) and what each stores (n, stores, 2).

        The last store is the leaf's flag, if it has one; `flag_value` says what it writes.
        """

    def flag_value(self, number: int) -> int:
        """Return what a runner writes into its flag."""

    def needs(self, kind: RunnerKind, number: int) -> list[tuple[int, int]]:
        """Return the ranges that an attempt loads before anything else.

        Where it looks at flags, or walks through data that is fetched where it is touched.
        """

    def effect(self, kind: RunnerKind, number: int, flags: Flags) -> Effect:
        """Return what an attempt does that is no leaf and whose needs are there."""


class Flags(Protocol):
    """Words of the flags, as an attempt's snapshot has them."""

    def words(self, start: int, count: int) -> Ints:
        """Return `count` words from an address on; their pages are held."""


def _image(end: int) -> Image:
    """Return a program of nothing but one array, from the first page of data to an end."""
    reserved = np.array([(DATA_START, end - DATA_START)], RANGE)
    words = (end - DATA_START) // WORD_BYTES
    arrays = {"data": ArrayDeclaration("data", DATA_START, "sq", (words,))}
    return Image(RunnerKind.MAIN.entry, b"", (), reserved, arrays=arrays, source_name="shape")


def _rows(*columns: Any) -> Ints:
    """Return ranges of n runners, (n, ranges, 2), from pairs of starts and lengths."""
    count = max(np.size(start) for start, _ in columns)
    shaped = [
        np.stack(np.broadcast_arrays(start, length), axis=-1).reshape(-1, 2)
        for start, length in columns
    ]
    return np.stack([np.broadcast_to(pair, (count, 2)) for pair in shaped], axis=1).astype(np.int64)


_NOTHING: Final = np.zeros((1, 0, 2), np.int64)


@dataclass(frozen=True)
class WaveShape:
    """Waves of parts, each with a watcher that starts the next: k-means, primes, empty runners.

    A part reads its share of `input_bytes`, and all of `common_bytes`; it stores `result_bytes` and
    a flag. When all flags of a wave are there, the watcher reads all results, stores to the common
    bytes and starts the next wave, or ends. Without `is_watched` parts declare and store nothing.

    Parameters
    ----------
    instructions
        Of each part, (parts,), in every wave.
    parents
        Runners that create the parts; 0: the first runner does.
    combining
        Instructions of a watcher for each part, once all are there.
    is_packed
        Whether flags follow the results at once, and do not begin a page.
    """

    parts: int
    instructions: Ints
    waves: int = 1
    input_bytes: int = 0
    common_bytes: int = 0
    result_bytes: int = 0
    combining: int = 4
    parents: int = 0
    is_watched: bool = True
    is_packed: bool = False

    # --- addresses ------------------------------------------------------------------------------
    @property
    def _results(self) -> int:
        return DATA_START + whole_pages(self.input_bytes)

    @property
    def _common(self) -> int:
        # Not behind the input: the last part would declare both as one range, all of it changed.
        size = self.result_bytes * self.parts
        return self._results + (size if self.is_packed else whole_pages(size))

    @property
    def _done(self) -> int:
        return self._common + whole_pages(self.common_bytes)

    @property
    def flags(self) -> tuple[int, int]:
        """A word for each part: the wave that its result belongs to."""
        return self._done, self.parts * WORD_BYTES

    @property
    def loaded(self) -> tuple[int, int]:
        """The input."""
        return DATA_START, self.input_bytes

    @property
    def image(self) -> Image:
        """Input, results, common bytes, flags; each from a page's start, unless they are packed."""
        return _image(DATA_START + whole_pages(sum(self.flags) - DATA_START))

    def _input_of(self, parts: Ints) -> tuple[Ints, Ints]:
        words = self.input_bytes // WORD_BYTES
        first, end = parts * words // self.parts, (parts + 1) * words // self.parts
        return DATA_START + first * WORD_BYTES, (end - first) * WORD_BYTES

    # --- runners --------------------------------------------------------------------------------
    def leaves(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return instructions and stores: result, then flag."""
        parts = numbers % self.parts
        if not self.is_watched:
            return self.instructions[parts], np.zeros((len(parts), 0, 2), np.int64)
        results = (self._results + parts * self.result_bytes, self.result_bytes)
        return self.instructions[parts], _rows(
            results, (self._done + parts * WORD_BYTES, WORD_BYTES)
        )

    def flag_value(self, number: int) -> int:
        """Return the wave, from 1."""
        return number // self.parts + 1

    def needs(self, kind: RunnerKind, number: int) -> list[tuple[int, int]]:
        """Return the input of a part, and a watcher's flags."""
        if kind is RunnerKind.LEAF and self.input_bytes:
            start, length = self._input_of(np.array([number % self.parts]))
            return [(int(start[0]), int(length[0]))]
        return [self.flags] if kind is RunnerKind.WATCHER else []

    def effect(self, kind: RunnerKind, number: int, flags: Flags) -> Effect:
        """Return what the first runner, a parent or a watcher does."""
        if kind is RunnerKind.MAIN:
            return self._begin()
        if kind is RunnerKind.PARENT:
            first, end = (n * self.parts // self.parents for n in (number, number + 1))
            return self._create(np.arange(first, end), 0)
        done = flags.words(self._done, self.parts) == number + 1
        seen = self.parts if done.all() else int(np.argmin(done))
        looked = _FEW_INSTRUCTIONS + _EXPECT_INSTRUCTIONS * seen
        if seen < self.parts:
            return Effect(looked, aborts=True)
        looked += self.combining * self.parts
        common = [(self._common, self.common_bytes)] if self.common_bytes else []
        if number + 1 == self.waves:
            return Effect(looked, common, deletes=True)
        wave = self._create(np.arange(self.parts), number + 1)
        return Effect(looked + wave.instructions, common, wave.children, deletes=True)

    def _begin(self) -> Effect:
        if not self.parents:
            return self._create(np.arange(self.parts), 0)
        parents = Children(RunnerKind.PARENT, np.arange(self.parents), _NOTHING, _NOTHING)
        return Effect(_RUNNER_INSTRUCTIONS * self.parents, children=[parents])

    def _create(self, parts: Ints, wave: int) -> Effect:
        """Return the creation of parts of a wave, from 0, and of its watcher."""
        numbers = wave * self.parts + parts
        if not self.is_watched:
            made = [Children(RunnerKind.LEAF, numbers, _NOTHING, _NOTHING)]
            return Effect(_RUNNER_INSTRUCTIONS * len(parts), children=made)
        heaps = _rows(
            self._input_of(parts),
            (self._common, self.common_bytes),
            (self._results + parts * self.result_bytes, self.result_bytes),
            (self._done + parts * WORD_BYTES, WORD_BYTES),
        )
        own = _rows(
            (self._results, self.parts * self.result_bytes), (self._common, self.common_bytes)
        )
        watcher = Children(RunnerKind.WATCHER, np.array([wave]), own, _rows(self.flags))
        made = [Children(RunnerKind.LEAF, numbers, heaps, _NOTHING), watcher]
        return Effect(_RUNNER_INSTRUCTIONS * (len(parts) + 1), children=made)


@dataclass(frozen=True)
class TreeShape:
    """A tree of watchers on pairs of nodes, as in `jobs/treesum`; node 1 is the root.

    Leaves are the nodes from `leaf_count` to below twice as many. A node is two words: its sum and
    its flag. Each leaf reads two of the integers that the first runner stores.
    """

    integers: int

    @property
    def leaf_count(self) -> int:
        """Leaves of the tree."""
        return (self.integers + 1) // 2

    @property
    def _nodes(self) -> int:
        return DATA_START + whole_pages(self.integers * WORD_BYTES)

    @property
    def flags(self) -> tuple[int, int]:
        """All nodes."""
        return self._nodes, 4 * self.leaf_count * WORD_BYTES

    @property
    def loaded(self) -> tuple[int, int]:
        """Nothing."""
        return DATA_START, 0

    @property
    def image(self) -> Image:
        """The integers, then the nodes."""
        return _image(self._nodes + whole_pages(self.flags[1]))

    def _node(self, numbers: Ints) -> Ints:
        return self._nodes + 2 * WORD_BYTES * numbers

    def leaves(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return instructions and the store of the node."""
        stores = _rows((self._node(self.leaf_count + numbers), 2 * WORD_BYTES))
        return np.full(len(numbers), _FEW_INSTRUCTIONS), stores

    def flag_value(self, number: int) -> int:
        """Return 1: the sum is there."""
        del number
        return 1

    def needs(self, kind: RunnerKind, number: int) -> list[tuple[int, int]]:
        """Return the two nodes that a watcher looks at."""
        if kind is not RunnerKind.WATCHER:
            return []
        return [(int(self._node(np.array([2 * number]))[0]), 4 * WORD_BYTES)]

    def effect(self, kind: RunnerKind, number: int, flags: Flags) -> Effect:
        """Return what the first runner does, or a watcher."""
        if kind is RunnerKind.MAIN:
            return self._plant()
        children = flags.words(int(self._node(np.array([2 * number]))[0]), 4)
        if not (children[1] and children[3]):
            return Effect(_FEW_INSTRUCTIONS, aborts=True)
        node = int(self._node(np.array([number]))[0])
        return Effect(_FEW_INSTRUCTIONS, [(node, 2 * WORD_BYTES)], deletes=True)

    def _plant(self) -> Effect:
        leaves = np.arange(self.leaf_count)
        at = DATA_START + 2 * WORD_BYTES * leaves
        lengths = np.minimum(DATA_START + self.integers * WORD_BYTES - at, 2 * WORD_BYTES)
        heaps = _rows((self._node(self.leaf_count + leaves), 2 * WORD_BYTES), (at, lengths))
        inner = np.arange(1, self.leaf_count)
        made = [Children(RunnerKind.LEAF, leaves, heaps, _NOTHING)]
        if len(inner):
            own = _rows((self._node(inner), 2 * WORD_BYTES))
            watched = _rows((self._node(2 * inner), 4 * WORD_BYTES))
            made.append(Children(RunnerKind.WATCHER, inner, own, watched))
        count = 4 * self.integers + _RUNNER_INSTRUCTIONS * (2 * self.leaf_count - 1)
        return Effect(count, [(DATA_START, self.integers * WORD_BYTES)], made)


# --- the jobs ------------------------------------------------------------------------------------
#: Names with their parameters and what these are unless given.
JOBS: Final[dict[str, dict[str, int]]] = {
    # One part for each of 159 workers, or two for each of 79.
    "kmeans": {"N": 64_000_000, "DIMS": 4, "K": 10, "ITERATIONS": 10, "PARTS": 158},
    "primes": {"LIMIT": 200_000_000, "PARTS": 4096, "BLOCK": 500},
    "treesum": {"N": 20_480},
    "empty": {"RUNNERS": 1_000_000, "INSTRUCTIONS": 1, "PARENTS": 64},
}


def make_shape(name: str, given: dict[str, int]) -> Shape:
    """Return the shape of a job, with `given` parameters in place of the usual ones.

    Raises
    ------
    UsageError
        There is no such job, or it has no such parameter.
    """
    if name not in JOBS:
        raise UsageError(f"--job: '{name}' is none of them; there are {', '.join(JOBS)}")
    unknown = sorted(given.keys() - JOBS[name].keys())
    if unknown:
        raise UsageError(f"-D {unknown[0]}: {name} has {', '.join(JOBS[name])}")
    values = JOBS[name] | given
    if min(values.values()) < 1:
        raise UsageError(f"-D: the parameters of {name} are numbers from 1 on")
    shape: Shape = _MAKERS[name](values)
    return shape


def _kmeans(p: dict[str, int]) -> Shape:
    parts = np.arange(p["PARTS"])
    points = (parts + 1) * p["N"] // p["PARTS"] - parts * p["N"] // p["PARTS"]
    clusters, dims = p["K"], p["DIMS"]
    # Of jobs/kmeans where a watcher moves the centroids (EACH_MOVES=0), point by point: its copy;
    # for each centroid three instructions a coordinate; two where it is nearer than those before,
    # of which there are 1 + 1/2 + 1/3 …; the sums; and what the loops that find and add count and
    # store.
    nearer = float((1 / np.arange(1, clusters + 1)).sum())
    of_point = dims + clusters * 3 * dims + 2 * nearer + dims + 8
    own = 2 * clusters * (2 * dims + 1) + _FEW_INSTRUCTIONS
    result = clusters * (dims + 1) * WORD_BYTES
    return WaveShape(
        parts=p["PARTS"],
        instructions=(points * of_point).astype(np.int64) + own,
        waves=p["ITERATIONS"],
        input_bytes=p["N"] * dims * WORD_BYTES,
        common_bytes=clusters * dims * WORD_BYTES,
        result_bytes=result,
        combining=4 * clusters * (dims + 1) + _EXPECT_INSTRUCTIONS,
    )


def _primes(p: dict[str, int]) -> Shape:
    """Each number takes about as many divisions as the smallest divisor, or the root of a prime."""
    limit, parts, block = p["LIMIT"], p["PARTS"], p["BLOCK"]
    # Smooth in the number, so that a block stands for its numbers.
    blocks = -(-limit // block)
    middle = np.minimum(np.arange(blocks) * block + block / 2, limit)
    lengths = np.minimum(np.arange(blocks) * block + block, limit) - np.arange(blocks) * block
    of_number = _DIVISION_INSTRUCTIONS * _divisions(np.maximum(middle, 4.0)) + 4
    counts = np.bincount(np.arange(blocks) % parts, weights=lengths * of_number, minlength=parts)
    return WaveShape(
        parts=parts,
        instructions=counts.astype(np.int64) + _FEW_INSTRUCTIONS,
        result_bytes=WORD_BYTES,
        is_packed=True,
    )


_DIVISION_INSTRUCTIONS: Final = 5
_SIEVED: Final = 1 << 16


def _divisions(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how often a number of about this size is divided, on the average.

    A divisor d is tried unless the number has a smaller one: by the primes below d, that is the
    product of 1 - 1/p. Summed up to the root.
    """
    size = int(np.sqrt(numbers.max())) + 2
    is_prime = np.ones(size + 1, bool)
    is_prime[:2] = False
    for n in range(2, int(np.sqrt(size)) + 1):
        if is_prime[n]:
            is_prime[n * n :: n] = False
    divisors = np.arange(size + 1)
    factors = np.where(is_prime, 1 - 1 / np.maximum(divisors, 2), 1.0)
    # Of d itself only those below it count.
    tried = np.concatenate([[1.0], np.cumprod(factors)[:-1]])
    tried[:2] = 0
    return np.asarray(np.cumsum(tried)[np.sqrt(numbers).astype(np.int64)])


def _empty(p: dict[str, int]) -> Shape:
    lengths = np.full(p["RUNNERS"], p["INSTRUCTIONS"])
    return WaveShape(p["RUNNERS"], lengths, parents=p["PARENTS"], is_watched=False)


_MAKERS: Final[dict[str, Any]] = {
    "kmeans": _kmeans,
    "primes": _primes,
    "treesum": lambda p: TreeShape(p["N"]),
    "empty": _empty,
}

assert ARGUMENT_BYTES % WORD_BYTES == 0
assert PAGE_BYTES % (4 * WORD_BYTES) == 0, "two neighbouring nodes lie on one page"

"""Classes of values behave as those of the standard library, whatever is asked of them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi import values
from tests.properties import tried

#: Ways to declare a class, by either library.
WAYS: list[dict[str, bool]] = [
    {"frozen": frozen, "slots": slots, "eq": eq, "kw_only": kw_only}
    for frozen in (False, True)
    for slots in (False, True)
    for eq in (False, True)
    for kw_only in (False, True)
]


def declared(library: Any, **way: bool) -> Any:
    """Return the same class, made by the standard library or by ours."""

    @library.dataclass(**way)
    class Row:
        """A row."""

        number: int
        text: str = "none"
        many: list[int] = library.field(default_factory=list)
        hidden: int = library.field(default=7, repr=False)
        apart: int = library.field(default=0, compare=False)

        @property
        def double(self) -> int:
            return 2 * self.number

    return Row


def outcome(act: Callable[..., object], *arguments: Any, **named: Any) -> object:
    """Return what a call returns, or the kind of error that it raises."""
    try:
        return act(*arguments, **named)
    except Exception as error:
        return type(error)


def same_hash(a: Any, b: Any) -> bool:
    return hash(a) == hash(b)


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(k for k in way if way[k]) or "plain")
def pair(request) -> tuple[Any, Any]:
    return declared(dataclasses, **request.param), declared(values, **request.param)


def test_values_are_shown_compared_and_hashed_as_ever(pair) -> None:
    told = []
    for row in pair:
        one, same, other = row(number=1), row(number=1, apart=5), row(number=2, text="x")
        told.append([
            repr(one), one.double, one == same, one != same, one == other, one == 1,
            [outcome(same_hash, value, same) for value in (one, other)],
            one.many is same.many, repr(outcome(row, 1, "b", [3])), outcome(row),
            outcome(row, 1, text="a", wrong=2),
        ])  # fmt: skip
    assert told[0] == told[1]


def test_values_change_or_refuse_to(pair) -> None:
    def change(value: Any) -> int:
        value.number = 9
        return int(value.number)

    def remove(value: Any) -> object:
        del value.number
        return getattr(value, "number", "gone")

    def add(value: Any) -> object:
        value.new = 1
        return value.new

    told = [[outcome(act, row(number=1)) for act in (change, remove, add)] for row in pair]
    # A frozen class with slots and no such field raises what it finds first.
    assert told[0][:2] == told[1][:2]
    assert isinstance(told[0][2], type) == isinstance(told[1][2], type)


def test_the_standard_library_takes_them_for_its_own(pair) -> None:
    told = []
    for row in pair:
        value = row(number=3, many=[1, 2])
        fields = [
            (f.name, f.type, f.default, f.repr, f.compare, f.init, f.kw_only)
            for f in dataclasses.fields(row)
        ]
        told.append([
            fields, dataclasses.is_dataclass(value), dataclasses.asdict(value),
            dataclasses.astuple(value), repr(dataclasses.replace(value, number=4)),
            row.__match_args__, str(inspect.signature(row)).replace("<factory>", "_nothing"),
            row.__name__, row.__doc__, hasattr(value, "__dict__"),
        ])  # fmt: skip
    told[1][6] = told[1][6].replace(repr(values._NOTHING), "_nothing")
    assert told[0] == told[1]


def test_replace_does_what_the_standard_one_does(pair) -> None:
    standard, ours = pair
    changed = values.replace(ours(number=1, text="a"), number=2)
    assert repr(changed) == repr(dataclasses.replace(standard(number=1, text="a"), number=2))


@values.dataclass(frozen=True, slots=True)
class Point:
    """Two numbers; their order is checked."""

    low: int
    high: int = 10

    def __post_init__(self) -> None:
        assert self.low <= self.high


@values.dataclass(frozen=True, slots=True)
class Named(Point):
    """A point with more."""

    name: str = ""


@values.dataclass(slots=True)
class Tally:
    """Changes, and cannot be a key."""

    count: int = 0


def test_what_is_checked_after_the_start_is_checked() -> None:
    with pytest.raises(AssertionError):
        Point(11)


def test_a_class_with_more_fields_takes_those_of_its_base_first() -> None:
    assert repr(Named(1, 2, "a")) == "Named(low=1, high=2, name='a')"
    assert [f.name for f in dataclasses.fields(Named)] == ["low", "high", "name"]
    assert Named(1, 2) != Point(1, 2)
    assert Point(1, 2) == Point(1, 2)


def test_a_value_is_matched_by_position() -> None:
    match Point(1, 2):
        case Point(low, high):
            assert (low, high) == (1, 2)


@given(st.integers(), st.integers(0, 5), st.text())
@tried(20)
def test_values_are_copied_and_pickled(low: int, more: int, name: str) -> None:
    for value in (Named(low, low + more, name), Point(low, low + more), Tally(low)):
        for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert made == value
            assert type(made) is type(value)


def test_types_are_told_as_they_are_written() -> None:
    assert values.types_of(Named) == {"low": "int", "high": "int", "name": "str"}
    with pytest.raises(AttributeError):
        values.types_of(int)


@pytest.mark.parametrize("way", WAYS, ids=str)
@given(
    positional=st.lists(st.integers(), max_size=6),
    named=st.dictionaries(
        st.sampled_from(["number", "text", "many", "hidden", "apart", "self", "wrong"]),
        st.integers(),
    ),
)
@tried(30)
def test_the_first_instances_are_made_as_later_ones(way, positional, named) -> None:
    early, late = declared(values, **way), declared(values, **way)
    assert late.__init__.__module__ == __name__, "asked for, the function is written"
    told = [repr(outcome(row, *positional, **named)) for row in (early, late)]
    assert told[0].split(".Row")[-1] == told[1].split(".Row")[-1]


def test_a_default_list_is_each_instances_own() -> None:
    row = declared(values)
    assert row(1).many is not row(1).many


def test_a_class_of_many_instances_has_a_function_of_its_own() -> None:
    row = declared(values, slots=True)
    numbers = [row(number).number for number in range(2 * values._UNWRITTEN_INSTANCES)]
    assert numbers == list(range(2 * values._UNWRITTEN_INSTANCES))
    assert inspect.isfunction(vars(row)["__init__"])


def test_nothing_is_compiled_before_there_are_many_values() -> None:
    # What all this is for: a module that only declares takes no time for it.
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import builtins, sys\n"
            "from dvm_mpi.values import dataclass\n"
            "seen, exec_ = [], builtins.exec\n"
            "builtins.exec = lambda *a: (seen.append(a), exec_(*a))\n"
            "@dataclass(frozen=True, slots=True)\n"
            "class A:\n"
            "    a: int\n"
            "assert not seen and 'dataclasses' not in sys.modules\n"
            "A(1), A(2)\n"
            "assert not seen\n"
            "[A(1) for _ in range(1000)]\n"
            "print(len(seen))\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "1"

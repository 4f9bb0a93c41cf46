from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.errors import UsageError
from dvm_mpi.io.specs import match_declarations, parse_spec

ARRAYS = {
    "points": ArrayDeclaration("points", 0x4_4000_0000, "fd", (10, 3)),
    "labels": ArrayDeclaration("labels", 0x4_4000_1000, "sq", (10,)),
}


@pytest.mark.parametrize(
    ("text", "name", "path", "dataset"),
    [
        ("points=a.h5:points", "points", "a.h5", "points"),
        ("points=a.h5:/group/points", "points", "a.h5", "group/points"),
        ("points=/data:1/a.h5:p", "points", "/data:1/a.h5", "p"),
        ("points=run=3.h5:p", "points", "run=3.h5", "p"),
        ("points=dir/a.npy", "points", "dir/a.npy", None),
        ("points=/data:1/A.NPY", "points", "/data:1/A.NPY", None),
    ],
)
def test_parts_of_a_spec(text: str, name: str, path: str, dataset: str | None) -> None:
    spec = parse_spec(text, "--in")
    assert (spec.name, spec.path, spec.dataset) == (name, Path(path), dataset)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("points", "--in points: this is not NAME=FILE:DATASET; write it like --in points="),
        ("=a.h5:p", "this is not NAME=FILE:DATASET"),
        ("points=", "this is not NAME=FILE:DATASET"),
        ("points=a.h5", "the dataset is missing after 'a.h5'"),
        ("points=a.h5:", "the dataset is missing after 'a.h5'"),
        ("points=a.h5:/", "the dataset is missing"),
        ("points=a.npy:x", "an .npy file holds one array without a name; leave out ':x'"),
    ],
)
def test_a_wrong_spec_is_explained(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text, "--in")
    assert words in str(caught.value)


def test_specs_find_their_declarations_in_order() -> None:
    specs = [parse_spec("labels=o.h5:l", "--out"), parse_spec("points=o.h5:p", "--out")]
    assert [d.name for _, d in match_declarations(specs, ARRAYS)] == ["labels", "points"]


def test_an_unknown_array_is_named_with_its_neighbours() -> None:
    with pytest.raises(UsageError) as caught:
        match_declarations([parse_spec("pionts=a.h5:p", "--in")], ARRAYS)
    assert str(caught.value) == (
        "--in pionts=a.h5:p: the program declares no array 'pionts' (did you mean 'points'?); "
        "it has points (fd, shape (10, 3)), labels (sq, shape (10,))"
    )


def test_a_program_without_arrays_says_how_to_declare_one() -> None:
    with pytest.raises(UsageError, match=r"declares no arrays; declare it with `\.array NAME"):
        match_declarations([parse_spec("points=a.h5:p", "--in")], {})


@pytest.mark.parametrize(
    ("option", "first", "second"),
    [
        ("--in", "points=a.h5:p", "points=b.h5:q"),
        ("--out", "points=a.h5:p", "labels=./a.h5:p"),
        ("--out", "points=a.npy", "labels=a.npy"),
    ],
)
def test_collisions_are_refused(option: str, first: str, second: str) -> None:
    specs = [parse_spec(first, option), parse_spec(second, option)]
    with pytest.raises(UsageError, match=f"this collides with {option} {first}; leave one"):
        match_declarations(specs, ARRAYS)


def test_one_array_may_go_to_two_files() -> None:
    specs = [parse_spec("points=a.h5:p", "--out"), parse_spec("points=b.npy", "--out")]
    assert len(match_declarations(specs, ARRAYS)) == 2


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    spec = parse_spec(f"points={tmp_path}/circle:p", "--out")
    with pytest.raises(UsageError, match="go in a circle"):
        match_declarations([spec], ARRAYS)

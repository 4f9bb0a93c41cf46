"""Compiled code is found again by equal sources on an equal machine, and by nothing else."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from dvm_mpi.dsm import kernels
from dvm_mpi.engine import entries
from dvm_mpi.errors import FileError
from dvm_mpi.native import store

DECORATORS = {"compiled", "kernel", "entry_kernel"}


# --- names -----------------------------------------------------------------------------------
def test_a_digest_stands_for_sources_compiler_and_processor(tmp_path, monkeypatch) -> None:
    source = tmp_path / "source.py"
    source.write_text("x = 1\n")
    first = store.digest_of([source])
    assert first == store.digest_of([source])
    source.write_text("x = 2\n")
    digests = [first, store.digest_of([source])]
    monkeypatch.setattr(store, "_version", lambda package: f"another {package}")
    store._tools.cache_clear()
    digests.append(store.digest_of([source]))
    monkeypatch.setattr(store, "_processor", lambda: ("another",))
    digests.append(store.digest_of([source]))
    store._tools.cache_clear()
    assert len(set(digests)) == 4


def test_a_digest_is_the_same_by_whatever_way_the_package_is_reached(tmp_path) -> None:
    """A folder with links to the package must not make everybody compile once more."""
    folder = Path(entries.__file__).parent
    usual = store.digest_of(folder.glob("*.py"))
    for name in ("0", "~"):
        # Before the package in the order of paths, and behind it.
        link = tmp_path / name
        link.symlink_to(folder)
        assert store.digest_of(link.glob("*.py")) == usual
        assert store.digest_of(store.sources_in(link)) == usual
    files = tmp_path / "files"
    files.mkdir()
    for path in folder.glob("*.py"):
        (files / path.name).symlink_to(path)
    assert store.digest_of(store.sources_in(files)) == usual


@pytest.mark.parametrize("size", [0, 1, store._READ_BYTES, 3 * store._READ_BYTES + 7])
def test_a_file_is_read_to_its_end(tmp_path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert store.content_of(str(tmp_path / "file")) == content[:size]


def test_the_processor_is_described() -> None:
    assert store._processor()[0] == os.uname().machine
    assert len(store._processor()) > 1


@pytest.mark.parametrize("library", [entries.LIBRARY, kernels.LIBRARY], ids=lambda lib: lib.name)
def test_the_sources_of_a_library_hold_all_that_its_code_uses(library) -> None:
    """A constant of a file that is not in the digest would be compiled in and never renewed."""
    common = {"dvm_mpi.layout", "dvm_mpi.config"}
    listed = {module_of(path) for path in library.sources} | common
    missing = {
        f"{path.name}: {name} of {module}"
        for path in library.sources
        for name, module in used_from_elsewhere(path).items()
        if module.startswith("dvm_mpi.") and module not in listed
    }
    assert missing == set()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(store.PACKAGE.parent).with_suffix("").parts)


def used_from_elsewhere(path: Path) -> dict[str, str]:
    """Return the names that the compiled functions of a file import, with their modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used = {
        name.id
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and is_compiled(function)
        for statement in function.body
        for name in ast.walk(statement)
        if isinstance(name, ast.Name)
    }
    return {name: imported[name] for name in used & imported.keys()}


def is_compiled(function: ast.FunctionDef) -> bool:
    names = {ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list}
    return bool(names & DECORATORS)


def test_compiled_functions_are_recognised() -> None:
    folder = store.PACKAGE / "dsm"
    assert used_from_elsewhere(folder / "page_loops.py") == {
        "NO_FRAME": "dvm_mpi.dsm.messages",
        "PAGE_BYTES": "dvm_mpi.layout",
        "PAGE_SHIFT": "dvm_mpi.layout",
        "find": "dvm_mpi.dsm.hashing",
    }


# --- folders ---------------------------------------------------------------------------------
def test_the_folder_that_was_asked_for_is_made(tmp_path) -> None:
    chosen = store._choose_folder(str(tmp_path / "a" / "b"), "/nowhere")
    assert chosen == store.Folder((tmp_path / "a" / "b").resolve())
    assert chosen.path.is_dir()


def test_without_a_usual_folder_the_user_gets_one_of_his_own(tmp_path) -> None:
    (tmp_path / "file").touch()
    chosen = store._choose_folder(str(tmp_path / "file" / "x"), str(tmp_path))
    assert chosen.path == tmp_path / f"dvm-{os.getuid()}"
    assert chosen.path.stat().st_mode & 0o777 == 0o700
    assert f"is kept in {chosen.path}, because {tmp_path}/file/x cannot be used" in chosen.notice


@pytest.mark.parametrize("danger", ["it belongs to somebody else", "others may write to it"])
def test_the_folder_that_was_asked_for_is_left_alone_where_others_may_have_made_it(
    tmp_path, danger
) -> None:
    """As in /tmp, where a name that is easy to guess may be taken by another user."""
    tmp_path.chmod(0o1777)
    asked = tmp_path / "dvm-me"
    if danger == "others may write to it":
        asked.mkdir()
        asked.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir()
        asked.symlink_to(tmp_path / "theirs")
    chosen = store._choose_folder(str(asked), str(tmp_path))
    assert chosen.path == tmp_path / f"dvm-{os.getuid()}"
    assert f"{asked} cannot be used: {danger}" in chosen.notice


@pytest.mark.parametrize("danger", ["it belongs to somebody else", "others may write to it"])
def test_code_that_others_may_have_left_is_not_run(tmp_path, danger) -> None:
    (tmp_path / "file").touch()
    own = tmp_path / f"dvm-{os.getuid()}"
    if danger == "others may write to it":
        own.mkdir()
        own.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir()
        own.symlink_to(tmp_path / "theirs")
    with pytest.raises(FileError, match=rf"{danger}\. Set NUMBA_CACHE_DIR"):
        store._choose_folder(str(tmp_path / "file" / "x"), str(tmp_path))

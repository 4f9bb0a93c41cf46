"""What is said to the user whichever way a program runs."""

from __future__ import annotations

from dvm_mpi.job import parts


def test_another_folder_for_compiled_code_is_told(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "usual"))
    parts.tell_code_folder()
    assert capsys.readouterr().err == ""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "folder"))
    parts.tell_code_folder()
    told = capsys.readouterr().err
    assert told.startswith(f"dvm: compiled code is kept in {tmp_path}/dvm-")
    assert told.count("\n") == 1

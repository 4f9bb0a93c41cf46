from __future__ import annotations

import pytest

from dvm_mpi.native import linking


def test_a_file_comes_into_being_complete(tmp_path, monkeypatch) -> None:
    """What is in the folder under its last name was written, linked and tried before."""
    monkeypatch.setattr(linking, "link", lambda source, target: False)
    linking.write(b"code", tmp_path / "sample-1")
    assert [path.name for path in tmp_path.iterdir()] == ["sample-1.o"]

    def fail(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(linking, "link", fail)
    with pytest.raises(KeyboardInterrupt):
        linking.write(b"code", tmp_path / "sample-2")
    assert [path.name for path in tmp_path.iterdir()] == ["sample-1.o"]

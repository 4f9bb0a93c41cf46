from __future__ import annotations

from dvm_mpi.doctor.table import CHECKS, GROUPS, ORDER


def test_every_check_has_a_row_of_its_own() -> None:
    assert len(ORDER) == len(CHECKS)
    assert all(check.slow or check.wrong for check in CHECKS)
    assert all(check.remedy for check in CHECKS)


def test_groups_stand_together() -> None:
    groups = [GROUPS[check.subject] for check in CHECKS]
    assert groups == sorted(groups, key=list(dict.fromkeys(groups)).index)

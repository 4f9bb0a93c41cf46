"""A difference between engines as text: its seed, its listing, and a case file to keep it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.disassembler import disassemble
from tests.engine.agreement import RAISED
from tests.engine.case_files import observations
from tests.engine.machine import Task
from tests.engine.random_programs import Scene


def told(seed: int, scene: Scene, found: Sequence[str], expected: dict[str, Any]) -> str:
    """Return what a reader needs: `found` are the differences, `expected` the reference's run."""
    parts = [f"seed {seed}: the engines differ in {len(found)} respects", *found]
    parts += ["", disassemble(scene.image)]
    text = case_text(f"seed {seed}", scene, expected)
    reason = "what this depends on does not fit into a case file; keep the seed"
    return "\n".join([*parts, reason if text is None else text])


def case_text(name: str, scene: Scene, expected: dict[str, Any]) -> str | None:
    """Return a case for tests/engine/cases/; None if a case file cannot say all of the scene.

    Its expectations are what the reference was seen to do: to be judged before they are kept.
    """
    (task, *others) = scene.tasks
    usual = Task(task.entry, task.grants)
    has_more = others or scene.again or task != usual or any(kind for *_, kind in task.grants)
    if has_more or scene.is_flat or RAISED in expected:
        return None
    program = disassemble(scene.image)
    lines = [f"== {name}", "-- program", program.rstrip()]
    lines += ["-- grants", *(f"{start:#x} {length}" for start, length, _ in task.grants)]
    if scene.memory:
        lines.append("-- memory")
        lines += [f"{address:#x}: {byte:02x}" for address, byte in sorted(scene.memory.items())]
    if scene.stdin:
        lines += ["-- stdin", "".join(f"\\x{byte:02x}" for byte in scene.stdin)]
    if scene.changes:
        lines += ["-- set", *(f"{key} {value}" for key, value in scene.changes.items())]
    lines += ["-- expect", *observations(expected["ended"][0], assemble_text(program, name, {}))]
    return "\n".join(lines) + "\n"

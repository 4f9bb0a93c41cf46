"""Translated code by hand: LLVM assembly, made executable within the test's process, or a file."""

from __future__ import annotations

from functools import cache

from llvmlite import binding

from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.state import Field
from dvm_mpi.layout import WORD_BYTES


@cache
def _machine(relocation: str = "default"):
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(reloc=relocation)


@cache
def _engine():
    return binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())


@cache
def function(assembly: str, name: str) -> int:
    """Return the host address of a function; its code stays as long as the process."""
    _engine().add_module(binding.parse_assembly(assembly))
    _engine().finalize_object()
    address: int = _engine().get_function_address(name)
    return address


def object_of(assembly: str) -> bytes:
    """Return the object file of position-independent code."""
    emitted: bytes = _machine("pic").emit_object(binding.parse_assembly(assembly))
    return emitted


def counting_loop(name: str, counter: int, sum_cell: int, limit: int, pcs: list[int]) -> int:
    """Return the function of a unit; see `loop_assembly`."""
    return function(loop_assembly(name, counter, sum_cell, limit, pcs), name)


def loop_assembly(name: str, counter: int, sum_cell: int, limit: int, pcs: list[int]) -> str:
    """Return a unit for a loop of three instructions, and then what follows.

    `add counter, 1`, `add sum, counter` and `br:l counter, limit` to the first; they are at `pcs`
    with the address behind them, and private cells on static pages. Entry 0 is the first of them,
    entry 1 the branch.
    """
    return f"""
        define i64 @{name}(i64 %state, i64 %entry, i64 %fuel) {{
        begin:
          %counter = inttoptr i64 {VIEW + counter} to i64*
          %sum = inttoptr i64 {VIEW + sum_cell} to i64*
          %is_first = icmp eq i64 %entry, 0
          br i1 %is_first, label %head, label %enter_branch
        enter_branch:
          %has_one = icmp sge i64 %fuel, 1
          br i1 %has_one, label %branch, label %leave
        head:
          %n = phi i64 [0, %begin], [%n2, %branch]
          %wanted = add i64 %n, 3
          %has_three = icmp sge i64 %fuel, %wanted
          br i1 %has_three, label %body, label %leave
        body:
          %old = load i64, i64* %counter
          %new = add i64 %old, 1
          store i64 %new, i64* %counter
          %old_sum = load i64, i64* %sum
          %new_sum = add i64 %old_sum, %new
          store i64 %new_sum, i64* %sum
          %n1 = add i64 %n, 2
          br label %branch
        branch:
          %m = phi i64 [%n1, %body], [0, %enter_branch]
          %value = load i64, i64* %counter
          %n2 = add i64 %m, 1
          %again = icmp slt i64 %value, {limit}
          br i1 %again, label %head, label %leave
        leave:
          %count = phi i64 [%n, %head], [%n2, %branch], [0, %enter_branch]
          %pc = phi i64 [{pcs[0]}, %head], [{pcs[3]}, %branch], [{pcs[2]}, %enter_branch]
          %at = add i64 %state, {Field.INSTRUCTIONS * WORD_BYTES}
          %field = inttoptr i64 %at to i64*
          %before = load i64, i64* %field
          %after = add i64 %before, %count
          store i64 %after, i64* %field
          ret i64 %pc
        }}
        """


def nothing(name: str, pc: int) -> int:
    """Return a unit that leaves its one instruction to the loop."""
    return function(
        f"define i64 @{name}(i64 %state, i64 %entry, i64 %fuel) {{ ret i64 {pc} }}", name
    )

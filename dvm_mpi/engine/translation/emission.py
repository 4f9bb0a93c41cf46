"""From LLVM's intermediate representation to an object file."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from llvmlite import binding

#: LLVM's own, and what takes a tenth of the time where hundreds of cells have no register.
_BLOCKS: Final = 10_000
_BLOCKS_LARGE: Final = 50


def _features() -> str:
    """Return the features of this processor, its widest vectors among those to use."""
    return ",".join([binding.get_host_cpu_features().flatten(), "-prefer-256-bit"])


@cache
def _machine(level: int) -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=_features(),
        opt=level,
        reloc="pic",
        codemodel="small",
    )


def optimised(text: str, level: int) -> Any:
    """Return a module of LLVM after its passes."""
    module = binding.parse_assembly(text)
    machine = _machine(level)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = binding.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = level > 1
    options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def object_of(text: str, level: int, *, is_large: bool = False) -> bytes:
    """Return the object file (ELF) of a module."""
    module = optimised(text, level)
    _search_registers(_BLOCKS_LARGE if is_large else _BLOCKS)
    emitted: bytes = _machine(level).emit_object(module)
    return emitted


def _search_registers(blocks: int) -> None:
    """Let LLVM look at so many blocks for where else a cell might live that has no register.

    It is a setting of the process.
    """
    binding.set_option("dvm", f"-grow-region-complexity-budget={blocks}")


def assembly_of(text: str, level: int) -> str:
    """Return the assembly of a module, for whoever looks at what came out."""
    emitted: str = _machine(level).emit_assembly(optimised(text, level))
    return emitted

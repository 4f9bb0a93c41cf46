"""From LLVM's intermediate representation to an object file."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import binding


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


def object_of(text: str, level: int) -> bytes:
    """Return the object file (ELF) of a module."""
    emitted: bytes = _machine(level).emit_object(optimised(text, level))
    return emitted


def assembly_of(text: str, level: int) -> str:
    """Return the assembly of a module, for whoever looks at what came out."""
    emitted: str = _machine(level).emit_assembly(optimised(text, level))
    return emitted

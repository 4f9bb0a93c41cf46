"""Checked loads and stores of a unit, as LLVM: flags of pages, masks of stored bytes.

The rules are those of the interpreter (loop.py): the page's flag byte permits the access or the
interpreter decides. The invariant to remember: no store without the mark that its page asks for,
no load without the note, where loads are noted, and no access through a pointer that meets a
promoted cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llvmlite import ir

from dvm_mpi.engine.address_space import (
    FLAGS,
    LOAD_MASKS,
    LOADED,
    MASKS,
    NOTED,
    READ,
    STATIC,
    TRACK,
    VIEW,
)
from dvm_mpi.engine.translation.accesses import Group
from dvm_mpi.engine.translation.frame import BIT, I8, I16, POINTER, Block, Frame, Value, word
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, SR_END, WORD_BYTES

assert SR_END & SR_END - 1 == 0, "an address outside has a bit that none inside has"

#: How often a page has the flags that are looked for first.
_USUAL: Final = (16, 1)


@dataclass(frozen=True, slots=True)
class Checked:
    """A group that has been checked: the value of its pointer.

    `is_tracked`: whether stores are marked; `is_noted`: whether loads are noted. None: there are
    none.
    """

    base: Value
    is_tracked: Value | None
    is_noted: Value | None = None


class Memory:
    """Emits accesses into a frame.

    With `notes_loads`, loads are noted as loads.py does; without, pages where they should be belong
    to the interpreter.
    """

    def __init__(
        self, frame: Frame, stretches: Sequence[tuple[int, int]], *, notes_loads: bool = False
    ) -> None:
        self._frame = frame
        self._stretches = stretches
        self.notes_loads = notes_loads
        #: Kinds of memory that do not overlap, for LLVM: bytes of the view, flags, masks.
        root = frame.module.add_metadata(["dvm"])
        names = ("view", "flags", "masks", "notes")
        kinds = [frame.module.add_metadata([name, root]) for name in names]
        self.view_kind, self.flags_kind, self.masks_kind, self.notes_kind = (
            frame.module.add_metadata([kind, kind, word(0)]) for kind in kinds
        )

    # --- addresses ----------------------------------------------------------------------------
    def pointer_to(self, address: Value) -> Value:
        """Return a DISA address as a pointer into the view."""
        builder = self._frame.builder
        if isinstance(address, ir.Constant):
            return self._frame.pointer(VIEW + address.constant)
        return builder.gep(self._frame.pointer(VIEW), [address], source_etype=I8)

    def origin_at(self, address: Value) -> Value:
        """Return a DISA address as a pointer that LLVM takes for the origin of an object.

        It vectorises loops over objects of which it knows no distance, if they lie apart when the
        loop begins. Within one object it wants all strides to be the same.
        """
        builder = self._frame.builder
        return builder.inttoptr(builder.add(address, word(VIEW)), POINTER)

    def load(self, pointer: Value, element: Value) -> Value:
        """Load from the view."""
        loaded = self._frame.builder.load(pointer, align=1, typ=element)
        loaded.set_metadata("tbaa", self.view_kind)
        return loaded

    def store(self, value: Value, pointer: Value) -> Value:
        """Store to the view; return the instruction that does."""
        stored = self._frame.builder.store(value, pointer, align=1)
        stored.set_metadata("tbaa", self.view_kind)
        return stored

    def flag_of(self, page: Value) -> Value:
        """Return the flag byte of a page, which must be in the view."""
        builder = self._frame.builder
        pointer = builder.gep(self._frame.pointer(FLAGS), [page], source_etype=I8)
        loaded = builder.load(pointer, typ=I8)
        loaded.set_metadata("tbaa", self.flags_kind)
        return loaded

    def is_listed(self, page: Value) -> Value:
        """Return whether a page is on the list of those of which loads are noted."""
        builder = self._frame.builder
        pointer = builder.gep(self._frame.pointer(LOADED), [page], source_etype=I8)
        loaded = builder.load(pointer, typ=I8)
        loaded.set_metadata("tbaa", self.flags_kind)
        return builder.icmp_unsigned("!=", loaded, ir.Constant(I8, 0))

    # --- checks -------------------------------------------------------------------------------
    def check(self, group: Group, base: Value, failed: Block) -> Checked:
        """Check all accesses of a group at once; to `failed` if the page does not permit them."""
        frame, builder = self._frame, self._frame.builder
        span = group.high - group.low
        start = builder.add(base, word(group.low)) if group.low else base
        # One comparison: an address outside has a bit above those of its place in the page.
        inside = builder.and_(start, word(PAGE_BYTES - 1 | -SR_END))
        frame.unless(failed, builder.icmp_unsigned("<=", inside, word(PAGE_BYTES - span)))
        page = builder.lshr(start, word(PAGE_SHIFT))
        flags = self.flag_of(page)
        if not self.notes_loads:
            is_tracked = self._check_flags(group, start, span, flags, failed)
            return Checked(base, is_tracked if group.stores else None)
        asked = self.asks_notes(flags, group.flags)
        self._check_noted(group, start, span, flags, asked, page, failed)
        is_tracked = self.asks_marks(flags) if group.stores else None
        return Checked(base, is_tracked, asked if group.loads else None)

    def asks_marks(self, flags: Value) -> Value:
        """Return whether stores to a page with these flags are marked."""
        builder = self._frame.builder
        tracked = builder.and_(flags, ir.Constant(I8, TRACK))
        return builder.icmp_unsigned("!=", tracked, ir.Constant(I8, 0))

    def asks_notes(self, flags: Value, wanted: int) -> Value:
        """Return whether flags permit what needs `wanted`, on a page of which loads are noted."""
        builder = self._frame.builder
        # NOTED stands in for READ; with READ the same bit means STATIC.
        seen = builder.and_(flags, ir.Constant(I8, wanted | READ | NOTED))
        return builder.icmp_unsigned("==", seen, ir.Constant(I8, wanted & ~READ | NOTED))

    def _check_noted(
        self, group: Group, start: Value, span: int, flags: Value, asked: Value, page: Value,
        failed: Block,
    ) -> None:  # fmt: skip
        """Check flags where loads are noted: the interpreter lists a page at its first load."""
        frame = self._frame
        noted, plain, ok = map(frame.block, ("noted", "plain", "ok"))
        frame.builder.cbranch(asked, noted, plain)
        frame.at(noted)
        if group.loads:
            frame.unless(failed, self.is_listed(page))
        frame.builder.branch(ok)
        frame.at(plain)
        self._check_flags(group, start, span, flags, failed)
        frame.go(ok)

    def _check_flags(
        self, group: Group, start: Value, span: int, flags: Value, failed: Block
    ) -> Value:
        """Check flags where no loads are noted; return whether stores are marked.

        One comparison where they are not and no cell can be met, as on a stack.
        """
        frame, builder = self._frame, self._frame.builder
        wanted = group.flags
        # A static page is one that cells may lie on; it is private, so nothing there is marked.
        matter = wanted | (STATIC if self._stretches else 0) | (TRACK if group.stores else 0)
        seen = builder.and_(flags, ir.Constant(I8, matter))
        ok, is_tracked = frame.block("ok"), []

        def unless_seen(more: int, name: str) -> None:
            other = frame.block(name)
            same = frame.builder.icmp_unsigned("==", seen, ir.Constant(I8, wanted | more))
            frame.builder.cbranch(same, ok, other).set_weights(_USUAL)
            is_tracked.append((more & TRACK != 0, frame.builder.block))
            frame.at(other)

        unless_seen(0, "unusual")
        if group.stores:
            unless_seen(TRACK, "static")
        if self._stretches:
            named = frame.builder.icmp_unsigned("==", seen, ir.Constant(I8, wanted | STATIC))
            frame.unless(failed, named)
            for low, high in self._stretches:
                before = frame.builder.sub(start, word(low - span + 1))
                apart = frame.builder.icmp_unsigned(">=", before, word(high - low + span - 1))
                frame.unless(failed, apart)
            is_tracked.append((False, frame.builder.block))
            frame.builder.branch(ok)
        else:
            frame.builder.branch(failed)
        frame.at(ok)
        result = frame.builder.phi(BIT)
        for value, block in is_tracked:
            result.add_incoming(ir.Constant(BIT, value), block)
        return result

    # --- stores -------------------------------------------------------------------------------
    def mark(self, checked: Checked, address: Value, width: int) -> None:
        """Mark bytes that are stored, if their page asks for it."""
        assert checked.is_tracked is not None, "a store that was not checked as one"
        with self._frame.only_if(checked.is_tracked, "tracked"):
            self.mark_always(address, width)

    def mark_always(self, address: Value, width: int) -> None:
        """Mark bytes that are stored."""
        builder = self._frame.builder
        pointer = self.mask_pointer(address)
        shift = builder.trunc(builder.and_(address, word(WORD_BYTES - 1)), I16)
        bits = builder.shl(ir.Constant(I16, (1 << width) - 1), shift)
        loaded = builder.load(pointer, align=1, typ=I16)
        loaded.set_metadata("tbaa", self.masks_kind)
        stored = builder.store(builder.or_(loaded, bits), pointer, align=1)
        stored.set_metadata("tbaa", self.masks_kind)

    def mask_pointer(self, address: Value, masks: int = MASKS) -> Value:
        """Return a pointer to the mask byte of an address, among those that begin at `masks`."""
        builder = self._frame.builder
        place = builder.lshr(address, word(3))
        return builder.gep(self._frame.pointer(masks), [place], source_etype=I8)

    # --- loads --------------------------------------------------------------------------------
    def note(self, checked: Checked, address: Value, width: int) -> None:
        """Note a load that takes place now, if its page asks for it."""
        if checked.is_noted is None:
            return
        with self._frame.only_if(checked.is_noted, "noted"):
            self.note_always(address, width)

    def note_always(self, address: Value, width: int) -> None:
        """Note that bytes are loaded, but for those that were stored before."""
        frame, builder = self._frame, self._frame.builder
        inside = builder.trunc(builder.and_(address, word(WORD_BYTES - 1)), I16)
        bits = builder.shl(ir.Constant(I16, (1 << width) - 1), inside)
        self.note_bits(address, builder.trunc(bits, I8))
        if width == 1:
            return
        # Byte by byte: the processor waits where it loads a part of what it has just stored.
        builder = frame.builder
        rest = builder.trunc(builder.lshr(bits, ir.Constant(I16, 8)), I8)
        further, done = (builder.function.append_basic_block(n) for n in ("further", "done"))
        builder.cbranch(builder.icmp_unsigned("!=", rest, ir.Constant(I8, 0)), further, done)
        frame.at(further)
        self.note_bits(builder.add(address, word(WORD_BYTES)), rest)
        frame.go(done)

    def note_bits(self, address: Value, bits: Value) -> None:
        """Note loads from the word of an address, a bit for each of its bytes."""
        builder = self._frame.builder
        stored = builder.load(self.mask_pointer(address), typ=I8)
        stored.set_metadata("tbaa", self.masks_kind)
        pointer = self.mask_pointer(address, LOAD_MASKS)
        before = builder.load(pointer, typ=I8)
        before.set_metadata("tbaa", self.notes_kind)
        after = builder.or_(before, builder.and_(bits, builder.not_(stored)))
        builder.store(after, pointer).set_metadata("tbaa", self.notes_kind)

"""Functions that native code of a unit calls within its own module: pages ahead, masks in bulk.

They are built when first needed, and LLVM may take them in where they are called, unless there are
many such places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir

from dvm_mpi.engine.address_space import (
    DIRTY,
    FLAGS,
    MASK_BYTES,
    MASKS,
    PAGE_COUNT,
    READ,
    STATIC,
    TRACK,
    WRITE,
)
from dvm_mpi.engine.translation.frame import (
    BIT,
    I8,
    I16,
    I64,
    POINTER,
    Frame,
    Value,
    word,
)
from dvm_mpi.engine.translation.memory import Memory
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, WORD_BYTES

_VOID: Final = ir.VoidType()
_RUN: Final = ir.LiteralStructType([I64, I64, I64])
#: Calls of one function up to which LLVM may take it in. Each brings a loop along, which LLVM
#: unrolls: a body with three hundred stores took a minute to translate.
_TAKEN_IN_MAX: Final = 8


class Runtime:
    """Builds and calls these functions."""

    def __init__(self, frame: Frame, memory: Memory, stretches: Sequence[tuple[int, int]]) -> None:
        self._frame = frame
        self._memory = memory
        self._stretches = stretches
        #: Calls so far, by functions.
        self._calls: Counter[str] = Counter()

    def _function(
        self, name: str, result: Value, count: int, build: Callable[[Any, Any], None]
    ) -> Any:
        """Return a function of words, which is built the first time."""
        found = self._frame.module.globals.get(name)
        if found is None:
            signature = ir.FunctionType(result, [I64] * count)
            found = ir.Function(self._frame.module, signature, name)
            found.linkage = "internal"
            builder = self._frame.builder
            self._frame.builder = ir.IRBuilder(found.append_basic_block("enter"))
            build(found, found.args)
            self._frame.builder = builder
        return found

    def _call(self, name: str, arguments: list[Value], build: Callable[[Any, Any], None]) -> None:
        """Call a function that returns nothing."""
        function = self._function(name, _VOID, len(arguments), build)
        self._calls[name] += 1
        if self._calls[name] > _TAKEN_IN_MAX:
            function.attributes.add("noinline")
        self._frame.builder.call(function, arguments)

    # --- pages ahead --------------------------------------------------------------------------
    def look(
        self, first: Value, flags: int, direction: int, most: Value, *, is_mixed: bool = False
    ) -> Value:
        """Look for a run of pages with the same flags, from an address on.

        Parameters
        ----------
        first
            An address on the page to begin with.
        flags
            What the pages must have.
        direction
            1 upwards, -1 downwards.
        most
            How many pages to look at; at least one.
        is_mixed
            Whether stores may be marked on some of the pages and not on others.

        Returns
        -------
        Value
            `{first byte, bytes, flags}` of the run, the flags those that any page has; no bytes if
            there is none.
        """

        def build(function: Any, args: Any) -> None:
            self._build_look(function, args, flags, direction, is_mixed=is_mixed)

        way = "up" if direction > 0 else "down"
        name = f"look_{way}_{flags}" + ("_mixed" if is_mixed else "")
        function = self._function(name, _RUN, 2, build)
        function.attributes.add("noinline")
        return self._frame.builder.call(function, [first, most])

    def _build_look(
        self, function: Any, args: Any, flags: int, direction: int, *, is_mixed: bool
    ) -> None:
        frame, memory = self._frame, self._memory
        first, most = args
        builder = frame.builder
        none = function.append_basic_block("none")
        ir.IRBuilder(none).ret(ir.Constant(_RUN, [0, 0, 0]))

        def unless(holds: Value) -> None:
            behind = function.append_basic_block("ok")
            frame.builder.cbranch(holds, behind, none)
            frame.builder.position_at_end(behind)

        page = builder.lshr(first, word(PAGE_SHIFT))
        unless(builder.icmp_unsigned("<", page, word(PAGE_COUNT)))
        seen = memory.flag_of(page)
        builder = frame.builder
        wanted = ir.Constant(I8, flags)
        permitted = builder.icmp_unsigned("==", builder.and_(seen, wanted), wanted)
        noted = None
        if memory.notes_loads:
            noted = memory.asks_notes(seen, flags)
            if flags & READ:
                listed = builder.and_(noted, memory.is_listed(page))
                permitted = builder.or_(permitted, listed)
        unless(permitted)
        pages, any_of = self._pages(
            function, page, seen, flags, direction, most, noted, is_mixed=is_mixed
        )
        builder = frame.builder
        lowest = page
        if direction < 0:
            lowest = builder.sub(page, builder.sub(pages, word(1)))
        low = builder.shl(lowest, word(PAGE_SHIFT))
        high = builder.shl(builder.add(lowest, pages), word(PAGE_SHIFT))
        low, high = self._without_cells(first, low, high, unless)
        builder = frame.builder
        run = ir.Constant(_RUN, ir.Undefined)
        run = builder.insert_value(run, low, 0)
        run = builder.insert_value(run, builder.sub(high, low), 1)
        builder.ret(builder.insert_value(run, builder.zext(any_of, I64), 2))

    def _pages(
        self, function: Any, page: Value, seen: Value, flags: int, direction: int, most: Value,
        noted: Value | None, *, is_mixed: bool,
    ) -> tuple[Value, Value]:  # fmt: skip
        """Return how many pages from `page` on have the same flags, as far as they matter.

        And the flags that any of them has. `noted`: whether loads from them are noted; then all of
        them must be listed.
        """
        frame, builder = self._frame, self._frame.builder
        matter = flags | STATIC | (READ if noted is not None else 0)
        if flags & WRITE:
            # Loads do not ask for TRACK. A page with DIRTY that lacks it was marked as a whole, so
            # that to mark it once more changes nothing; one without DIRTY must not be marked.
            matter |= DIRTY if is_mixed else TRACK
        mask = ir.Constant(I8, matter)
        same = builder.and_(seen, mask)
        loop, step, done = (function.append_basic_block(n) for n in ("look", "step", "done"))
        before = builder.block
        builder.branch(loop)
        frame.at(loop)
        builder = frame.builder
        count, any_of = builder.phi(I64), builder.phi(I8)
        count.add_incoming(word(1), before)
        any_of.add_incoming(seen, before)
        distance = count if direction > 0 else builder.neg(count)
        other = builder.add(page, distance)
        inside = builder.icmp_unsigned("<", other, word(PAGE_COUNT))
        more = builder.and_(inside, builder.icmp_unsigned("<", count, most))
        builder.cbranch(more, step, done)
        frame.at(step)
        found = self._memory.flag_of(other)
        builder = frame.builder
        equal = builder.icmp_unsigned("==", builder.and_(found, mask), same)
        if noted is not None and flags & READ:
            listed = builder.or_(builder.not_(noted), self._memory.is_listed(other))
            equal = builder.and_(equal, listed)
        following = builder.add(count, word(1))
        count.add_incoming(following, step)
        any_of.add_incoming(builder.or_(any_of, found), step)
        builder.cbranch(equal, loop, done)
        frame.at(done)
        return count, any_of

    def _without_cells(
        self, address: Value, low: Value, high: Value, unless: Callable[[Value], None]
    ) -> tuple[Value, Value]:
        """Return what is left of a stretch around an address between promoted cells."""
        for first, end in self._stretches:
            builder = self._frame.builder
            before = builder.icmp_unsigned("<", address, word(first))
            after = builder.icmp_unsigned(">=", address, word(end))
            unless(builder.or_(before, after))
            builder = self._frame.builder
            nearer = builder.icmp_unsigned("<", word(first), high)
            high = builder.select(builder.and_(before, nearer), word(first), high)
            nearer = builder.icmp_unsigned(">", word(end), low)
            low = builder.select(builder.and_(after, nearer), word(end), low)
        return low, high

    # --- masks in bulk ------------------------------------------------------------------------
    def mark_range(self, start: Value, length: Value) -> None:
        """Mark `length` bytes from `start` on as stored; at least one."""

        def build(function: Any, args: Any) -> None:
            self._build_range(function, args, self._mark_bits, self._mark_words, self._settle)

        self._call("mark_range", [start, length], build)

    def note_range(self, start: Value, length: Value) -> None:
        """Note loads of `length` bytes from `start` on; at least one."""

        def build(function: Any, args: Any) -> None:
            self._build_range(function, args, self._note_bits, self._note_words)

        self._call("note_range", [start, length], build)

    def _build_range(
        self,
        function: Any,
        args: Any,
        at_ends: Callable[[Value, Value], None],
        within: Callable[[Any, Value, Value], None],
        behind: Callable[[Any, Value, Value], None] | None = None,
    ) -> None:
        """Build what treats parts of words at both ends of a range, and whole ones in between.

        `behind` follows where there may be whole ones; it takes the range's two ends.
        """
        frame = self._frame
        start, length = args
        builder = frame.builder
        end = builder.add(start, length)
        mask = word(WORD_BYTES - 1)
        first = builder.and_(builder.add(start, mask), word(-WORD_BYTES))
        last = builder.and_(end, word(-WORD_BYTES))
        is_inside = builder.icmp_unsigned(">", first, last)
        inner, whole = function.append_basic_block("inner"), function.append_basic_block("whole")
        builder.cbranch(is_inside, inner, whole)
        # Bytes of one word, neither end of it among them.
        frame.at(inner)
        at_ends(start, length)
        frame.builder.ret_void()
        frame.at(whole)
        at_ends(start, frame.builder.sub(first, start))
        at_ends(last, frame.builder.sub(end, last))
        builder = frame.builder
        words = builder.lshr(builder.sub(last, first), word(3))
        within(function, first, words)
        if behind is not None:
            behind(function, start, end)
        frame.builder.ret_void()

    def _settle(self, function: Any, start: Value, end: Value) -> None:
        """Ask for no more marks on pages of `[start, end)` of which all bytes are marked.

        So what fills a table pays for marks, and what then changes it at random does not: a mask
        takes a line of the cache of its own. A page is looked at when its first or its last byte is
        marked, so that short ranges do not look at the same page again and again.
        """
        frame, builder = self._frame, self._frame.builder
        first = builder.lshr(start, word(PAGE_SHIFT))
        last = builder.lshr(builder.sub(end, word(1)), word(PAGE_SHIFT))
        edge = builder.and_(start, word(PAGE_BYTES - 1))
        ends = builder.and_(end, word(PAGE_BYTES - 1))
        meets = builder.icmp_unsigned("==", builder.mul(edge, ends), word(0))
        meets = builder.or_(meets, builder.icmp_unsigned("!=", first, last))
        looking, done = function.append_basic_block("looking"), function.append_basic_block("done")
        builder.cbranch(meets, looking, done)
        frame.at(looking)
        self.settle(first, last)
        frame.go(done)

    def settle(self, first: Value, last: Value) -> None:
        """Ask for no more marks on those of some pages of which all bytes are marked."""
        settle = self._function("settle", _VOID, 2, self._build_settle)
        settle.attributes.add("noinline")
        self._frame.builder.call(settle, [first, last])

    def _build_settle(self, function: Any, args: Any) -> None:
        """Build `settle(first page, last page)`."""
        frame, memory = self._frame, self._memory
        first, last = args
        pages, look, words, step, settled, following, done = (
            function.append_basic_block(name)
            for name in ("pages", "look", "words", "step", "settled", "following", "done")
        )
        enter = frame.builder.block
        frame.go(pages)
        page = frame.builder.phi(I64)
        page.add_incoming(first, enter)
        tracked = frame.builder.and_(memory.flag_of(page), ir.Constant(I8, TRACK))
        is_tracked = frame.builder.icmp_unsigned("!=", tracked, ir.Constant(I8, 0))
        frame.builder.cbranch(is_tracked, look, following)
        frame.at(look)
        builder = frame.builder
        masks = builder.add(builder.mul(page, word(MASK_BYTES)), word(MASKS))
        builder.branch(words)
        frame.at(words)
        offset = builder.phi(I64)
        offset.add_incoming(word(0), look)
        pointer = builder.inttoptr(builder.add(masks, offset), POINTER)
        found = builder.load(pointer, typ=I64)
        found.set_metadata("tbaa", memory.masks_kind)
        builder.cbranch(builder.icmp_signed("==", found, word(-1)), step, following)
        frame.at(step)
        behind = builder.add(offset, word(WORD_BYTES))
        offset.add_incoming(behind, step)
        builder.cbranch(builder.icmp_unsigned("<", behind, word(MASK_BYTES)), words, settled)
        frame.at(settled)
        flags = builder.and_(memory.flag_of(page), ir.Constant(I8, ~TRACK & 0xFF))
        place = builder.inttoptr(builder.add(page, word(FLAGS)), POINTER)
        builder.store(flags, place).set_metadata("tbaa", memory.flags_kind)
        builder.branch(following)
        frame.at(following)
        after = builder.add(page, word(1))
        page.add_incoming(after, following)
        builder.cbranch(builder.icmp_unsigned("<=", after, last), pages, done)
        ir.IRBuilder(done).ret_void()

    def _bits(self, address: Value, length: Value) -> Value:
        """Return the mask of `length` bytes, less than eight, of one word."""
        builder = self._frame.builder
        one = ir.Constant(I16, 1)
        ones = builder.sub(builder.shl(one, builder.trunc(length, I16)), one)
        shift = builder.trunc(builder.and_(address, word(WORD_BYTES - 1)), I16)
        return builder.trunc(builder.shl(ones, shift), I8)

    def _mark_bits(self, address: Value, length: Value) -> None:
        builder = self._frame.builder
        bits = self._bits(address, length)
        pointer = self._memory.mask_pointer(address)
        loaded = builder.load(pointer, typ=I8)
        builder.store(builder.or_(loaded, bits), pointer)

    def _mark_words(self, _: Any, first: Value, words: Value) -> None:
        name = "llvm.memset.p0.i64"
        memset = self._frame.module.globals.get(name)
        if memset is None:
            signature = ir.FunctionType(_VOID, [POINTER, I8, I64, BIT])
            memset = ir.Function(self._frame.module, signature, name)
        pointer = self._memory.mask_pointer(first)
        arguments = [pointer, ir.Constant(I8, 0xFF), words, ir.Constant(BIT, 0)]
        self._frame.builder.call(memset, arguments)

    def _note_bits(self, address: Value, length: Value) -> None:
        self._memory.note_bits(address, self._bits(address, length))

    def _note_words(self, function: Any, first: Value, words: Value) -> None:
        frame, builder = self._frame, self._frame.builder
        loop, step, done = (function.append_basic_block(n) for n in ("loop", "step", "done"))
        before = builder.block
        builder.branch(loop)
        frame.at(loop)
        index = frame.builder.phi(I64)
        index.add_incoming(word(0), before)
        frame.builder.cbranch(frame.builder.icmp_unsigned("<", index, words), step, done)
        frame.at(step)
        builder = frame.builder
        address = builder.add(first, builder.shl(index, word(3)))
        self._memory.note_bits(address, ir.Constant(I8, 0xFF))
        index.add_incoming(builder.add(index, word(1)), builder.block)
        builder.branch(loop)
        frame.at(done)

    def mark_each(self, start: Value, step: Value, count: Value, width: int) -> None:
        """Mark `width` bytes at `start`, and `count` times in all, `step` bytes apart."""
        self._each(f"mark_each_{width}", [start, step, count], width, self._memory.mark_always)

    def note_each(self, start: Value, step: Value, count: Value, width: int) -> None:
        """Note a load of `width` bytes at `start`, and `count` in all, `step` bytes apart."""
        self._each(f"note_each_{width}", [start, step, count], width, self._memory.note_always)

    def _each(
        self, name: str, arguments: list[Value], width: int, act: Callable[[Value, int], None]
    ) -> None:
        def build(function: Any, args: Any) -> None:
            self._build_each(function, args, lambda address: act(address, width))

        self._call(name, arguments, build)

    def _build_each(self, function: Any, args: Any, act: Callable[[Value], None]) -> None:
        frame, builder = self._frame, self._frame.builder
        start, step, count = args
        loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
        before = builder.block
        builder.branch(loop)
        frame.at(loop)
        builder = frame.builder
        index, address = builder.phi(I64), builder.phi(I64)
        index.add_incoming(word(0), before)
        address.add_incoming(start, before)
        act(address)
        builder = frame.builder
        following = builder.add(index, word(1))
        index.add_incoming(following, builder.block)
        address.add_incoming(builder.add(address, step), builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, count), loop, done)
        ir.IRBuilder(done).ret_void()

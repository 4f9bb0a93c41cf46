"""What is translated as one function: a loop nest with the functions that it calls, or a function.

Pure. Hot code is in loops, so the unit around a place is the largest loop nest around it that is
not too large, or else the innermost loop, which may be larger; a function without a loop goes with
the loop that calls it. Where control enters a unit is its entries, and only there: at loop headers,
behind what the interpreter executes, where calls arrive and come back, at labels whose address is
taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.layout import PAGE_SHIFT, TEXT_START, WORD_BYTES

#: Instructions of one unit: a thousand take a second or so to translate.
UNIT_INSTRUCTIONS_MAX: Final = 1_000
#: The same of a loop without another one in it: in pieces, each round would be interpreted in part.
#: That of k-means with 100 centroids of 16 numbers has 5,400, and takes five seconds. What LLVM
#: does with branches grows with the square of their number: so many take up to ten seconds.
LOOP_INSTRUCTIONS_MAX: Final = 6_000
LOOP_BRANCHES_MAX: Final = 300

_Graph = Mapping[int, Collection[int]]


@dataclass(frozen=True, slots=True)
class Unit:
    """Addresses of instructions that are translated together.

    `entries`: where control may come in, sorted; a position here is the entry's number.
    `addresses`: of all its instructions, sorted. `static_pages`: private pages that it accesses
    without a check, sorted: where they are not static, the unit must not be used. `landings`: the
    entries to which jumps by an address in a cell may lead.
    """

    entries: tuple[int, ...]
    landings: tuple[int, ...]
    addresses: tuple[int, ...]
    static_pages: tuple[int, ...]


class Chooser:
    """Chooses units of one program."""

    def __init__(self, code: Code, image: Image) -> None:
        self._code = code
        self._instructions = code.instructions
        self._flows = {a: code.flow(i) for a, i in self._instructions.items()}
        self._graph: dict[int, tuple[int, ...]] = {
            address: tuple(t for t in flow.targets if t in self._instructions)
            for address, flow in self._flows.items()
        }
        self._called: dict[int, list[int]] = {}
        for address, flow in self._flows.items():
            if flow.called is not None and flow.called in self._instructions:
                self._called.setdefault(flow.called, []).append(address)
        self._taken = set(self._addresses_taken(image))
        #: By functions: what they lead to, as far as somebody has asked.
        self._known: dict[int, set[int]] = {}
        self._before: dict[int, list[int]] = {}
        for address, targets in self._graph.items():
            for target in targets:
                self._before.setdefault(target, []).append(address)

    def _addresses_taken(self, image: Image) -> Iterator[int]:
        """Yield instructions that control may reach by an address: constants, and words of data.

        Of calls it is known where they lead: a switch at each return would ask for those addresses.
        """
        yield image.entry
        for instruction in self._instructions.values():
            called = self._flows[instruction.address].called
            for operand in instruction.operands if called is None else ():
                if operand.mode is Mode.IMMEDIATE and operand.value in self._instructions:
                    yield operand.value
        for section in image.sections:
            data = np.frombuffer(section.data, dtype=np.uint8)
            words = data[: len(data) // WORD_BYTES * WORD_BYTES].view("<i8")
            text = words[(words >= TEXT_START) & (words < TEXT_START + len(image.text))]
            yield from (a for a in np.unique(text).tolist() if a in self._instructions)

    # --- choices ------------------------------------------------------------------------------
    def around(self, pc: int) -> Unit | None:
        """Return the unit to translate when `pc` is where the time goes; None if there is none."""
        if pc not in self._instructions:
            return None
        found = self._around(pc, set())
        if found is None and (self._root_of(pc) is not None or self._is_in_loop(pc)):
            found = self._near(pc)
        return None if found is None else self.unit(found)

    def all(self) -> list[Unit]:
        """Return units that together hold every instruction of the program."""
        units: list[Unit] = []
        covered: set[int] = set()
        roots = sorted((self._taken | self._called.keys()) & self._instructions.keys())
        for root in roots:
            region = self._with_called(self._reachable([root]))
            if len(region) <= UNIT_INSTRUCTIONS_MAX and not region <= covered:
                units.append(self.unit(region))
                covered |= region
        for address in self._instructions:
            if address not in covered:
                region = self._around(address, set()) or self._near(address)
                units.append(self.unit(region))
                covered |= region
        return units

    def unit(self, addresses: set[int]) -> Unit:
        """Return the unit of some addresses."""
        within = {a: [t for t in self._graph[a] if t in addresses] for a in sorted(addresses)}
        entries = {a for a in addresses if any(b not in addresses for b in self._before.get(a, ()))}
        for address in addresses:
            flow = self._flows[address]
            if flow.calls_out or flow.called is not None or flow.is_indirect:
                entries.update(t for t in flow.targets if t in addresses)
        entries |= self._called.keys() & addresses
        landings = self._taken & addresses
        for address in addresses:
            if self._flows[address].called is not None:
                landings.update(t for t in self._graph[address] if t in addresses)
        entries |= landings
        entries |= returning(within, sorted(entries) or [min(addresses)])
        pages = {
            operand.value >> PAGE_SHIFT
            for address in addresses
            for operand in self._instructions[address].operands
            if operand.mode is not Mode.IMMEDIATE
        }
        return Unit(
            entries=tuple(sorted(entries)),
            landings=tuple(sorted(landings)),
            addresses=tuple(sorted(addresses)),
            static_pages=tuple(sorted(self._pages_near(pages))),
        )

    def _pages_near(self, pages: set[int]) -> set[int]:
        """Return the static ones among pages and their neighbours, into which a cell may reach."""
        return {p for page in pages for p in (page, page + 1)} & self._code.static_pages

    # --- loops and functions ------------------------------------------------------------------
    def _around(self, pc: int, seen: set[int]) -> set[int] | None:
        """Return the loop or function around `pc` that is a unit; None if all are too large."""
        root = self._root_of(pc)
        if root is not None and self._calls_itself(root):
            region = self._with_called(self._reachable([root]))
            if len(region) <= UNIT_INSTRUCTIONS_MAX:
                return region
        if pc in self._nests:
            return self._with_called(self._nests[pc])
        if root is None:
            return None
        for site in self._called.get(root, ()):
            if site not in seen:
                seen.add(site)
                found = self._around(site, seen)
                if found is not None and pc in found:
                    return found
        region = self._with_called(self._reachable([root]))
        return region if len(region) <= UNIT_INSTRUCTIONS_MAX else None

    @cached_property
    def _nests(self) -> dict[int, set[int]]:
        """The largest loop nests that are not too large, by their addresses.

        Where every nest around an instruction is, the innermost loop, unless that is as well.
        """
        found: dict[int, set[int]] = {}
        waiting = [set(self._instructions)]
        while waiting:
            nodes = waiting.pop()
            graph = {a: [t for t in self._graph[a] if t in nodes] for a in nodes}
            for nest in components(graph):
                within = nest - self._heads(nest)
                is_unit = len(nest) <= UNIT_INSTRUCTIONS_MAX or (
                    not self._is_too_large(nest) and not self._has_loop(within)
                )
                if is_unit:
                    found.update(dict.fromkeys(nest, nest))
                else:
                    waiting.append(within)
        return found

    def _heads(self, nest: set[int]) -> set[int]:
        """Return where control comes into a nest."""
        heads = {a for a in nest if any(b not in nest for b in self._before.get(a, ()))}
        # It may also come from nowhere: where runners begin, or calls arrive.
        return heads or nest & (self._taken | self._called.keys()) or {min(nest)}

    def _has_loop(self, addresses: set[int]) -> bool:
        """Return whether control can come back to one of some instructions within them."""
        graph = {a: [t for t in self._graph[a] if t in addresses] for a in addresses}
        return bool(returning(graph, ()))

    def _is_too_large(self, loop: set[int]) -> bool:
        """Return whether a loop cannot be one unit, though there is no other one in it."""
        branches = sum(len(self._graph[address]) > 1 for address in loop)
        return len(loop) > LOOP_INSTRUCTIONS_MAX or branches > LOOP_BRANCHES_MAX

    def _root_of(self, pc: int) -> int | None:
        """Return the beginning of the smallest function that holds `pc`."""
        best, best_size = None, 0
        for root in sorted((self._taken | self._called.keys()) & self._instructions.keys()):
            region = self._reachable([root])
            if pc in region and (best is None or len(region) < best_size):
                best, best_size = root, len(region)
        return best

    def _reachable(self, roots: Iterable[int]) -> set[int]:
        found: set[int] = set()
        waiting = list(roots)
        while waiting:
            address = waiting.pop()
            if address not in found:
                found.add(address)
                waiting += self._graph[address]
        return found

    def _is_in_loop(self, pc: int) -> bool:
        return pc in self._reachable(self._graph[pc])

    def _near(self, pc: int) -> set[int]:
        """Return what control reaches soonest from `pc`, as much as a unit may hold.

        Loops as a whole or not at all: a part might be entered in place of the loop.
        """
        found = [pc]
        for address in found:
            for target in self._graph[address]:
                whole = self._nests.get(target, {target})
                if target not in found and len(found) + len(whole) <= UNIT_INSTRUCTIONS_MAX:
                    found += sorted(whole)
        return set(found)

    def _calls_itself(self, root: int) -> bool:
        """Return whether a function, or one that it leads to, calls it."""
        within = self._called_from(root)
        return any(site in within for site in self._called.get(root, ()))

    def _called_from(self, root: int) -> set[int]:
        """Return the instructions of a function and of all that it leads to; not to be changed."""
        if root in self._known:
            return self._known[root]
        found = self._known[root] = set()
        waiting = [root]
        while waiting:
            new = self._reachable([waiting.pop()]) - found
            found |= new
            waiting += [
                called
                for address in new
                if (called := self._flows[address].called) is not None
                and called in self._instructions
                and called not in found
            ]
        return found

    def _with_called(self, addresses: set[int]) -> set[int]:
        """Add the functions that these instructions call, as long as they fit.

        Beside a large loop these may be as many instructions as a unit may hold without one.

        A function that calls itself, and none of these, is a unit of its own: most of its calls are
        within, and among cells of its callers LLVM would find no registers for its own.
        """
        whole = set(addresses)
        is_large = len(addresses) > UNIT_INSTRUCTIONS_MAX
        most = UNIT_INSTRUCTIONS_MAX + (len(addresses) if is_large else 0)
        waiting = sorted(addresses)
        for address in waiting:
            called = self._flows[address].called
            if called is None or called not in self._instructions or called in whole:
                continue
            if not self._calls_itself(called) or self._called_from(called) & whole:
                region = self._reachable([called]) - whole
                if len(whole) + len(region) <= most:
                    whole |= region
                    waiting += sorted(region)
        return whole


def components(graph: _Graph) -> Iterator[set[int]]:
    """Yield the largest sets of nodes that all lead to each other, of those on cycles.

    By Tarjan's algorithm: each node and edge is looked at once.
    """
    numbers: dict[int, int] = {}
    #: By nodes that belong to no component yet: the earliest of these that they lead back to.
    earliest: dict[int, int] = {}
    path: list[int] = []
    for root in sorted(graph):
        if root in numbers:
            continue
        walk = [(root, iter(graph[root]))]
        while walk:
            node, targets = walk[-1]
            if node not in numbers:
                numbers[node] = earliest[node] = len(numbers)
                path.append(node)
            target = next(targets, None)
            if target is not None:
                if target not in numbers:
                    walk.append((target, iter(graph[target])))
                elif target in earliest:
                    earliest[node] = min(earliest[node], numbers[target])
                continue
            walk.pop()
            if walk:
                above = walk[-1][0]
                earliest[above] = min(earliest[above], earliest[node])
            if earliest[node] == numbers[node]:
                component = set[int]()
                while node not in component:
                    component.add(path.pop())
                for each in component:
                    del earliest[each]
                if len(component) > 1 or node in graph[node]:
                    yield component


def returning(graph: _Graph, roots: Iterable[int]) -> set[int]:
    """Return the nodes to which a depth-first walk comes back: they cut every cycle."""
    cut: set[int] = set()
    done: set[int] = set()
    under_way: set[int] = set()
    for root in (*roots, *sorted(graph)):
        if root in done:
            continue
        walk = [(root, iter(graph[root]))]
        under_way.add(root)
        while walk:
            address, targets = walk[-1]
            target = next(targets, None)
            if target is None:
                walk.pop()
                under_way.discard(address)
                done.add(address)
            elif target in under_way:
                cut.add(target)
            elif target not in done:
                under_way.add(target)
                walk.append((target, iter(graph[target])))
    return cut


def ways_out(code: Code, unit: Unit) -> set[int]:
    """Return the addresses at which the interpreter may go on, whatever stands there."""
    found = set(unit.addresses)
    for instruction in instructions_of(code, unit):
        flow = code.flow(instruction)
        found.update(flow.targets)
        found.add(instruction.address + instruction.size_bytes)
        if flow.called is not None:
            found.add(flow.called)
    return found


def instructions_of(code: Code, unit: Unit) -> list[Instruction]:
    """Return a unit's instructions in order of address."""
    found = [code.at(address) for address in unit.addresses]
    instructions = [i for i in found if i is not None]
    assert len(instructions) == len(found), "a unit of this program"
    return instructions

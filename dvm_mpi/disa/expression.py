"""Constant expressions: a Pratt parser and an evaluator.

Operators, from loose to tight: `||`, `&&`, comparisons, `|`, `^`, `&`, `<< >>`, `+ -`, `* / %`,
then the signs `- + ~ !`. Integers are exact (up to 128 bits on the way); `/` truncates toward zero
and `%` has the sign of its left side, as the instructions `div` and `mod` do. An operation with a
float gives a float. `.` is the address of the statement; `defined(NAME)` tells whether a name is
known so far; `bits(N)` is the float constant with these bits, for NaNs with a payload.

Labels of `.bss` have no address before the end of the first pass: `Unplaced` stands for them, and
admits what does not depend on it (differences, offsets, comparisons).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from dvm_mpi.config import EXPRESSION_BITS_MAX, EXPRESSION_TERMS_MAX
from dvm_mpi.disa.lexer import Token, TokenKind
from dvm_mpi.disa.source import Fault, Span


class Unplaced(NamedTuple):
    """An address that is known only as an offset from the start of `.bss`."""

    offset: int


class Bits(NamedTuple):
    """The bits of a floating-point constant."""

    value: int


Value: TypeAlias = int | float | Unplaced | Bits


class Scope(Protocol):
    """Where names get their values."""

    def value_of(self, name: str, span: Span) -> Value:
        """Return the value of a name; a Fault if it has none (yet)."""

    def is_defined(self, name: str) -> bool:
        """Return whether the name is known."""

    def here(self) -> Value:
        """Return the address of the statement."""


# --- the tree ---------------------------------------------------------------------------------
# Every node has `span`, its columns, and `evaluate`, which raises a Fault for a name without a
# value, a division by zero, or an operation that its terms do not admit.
class Constant(NamedTuple):
    """A number."""

    value: int | float
    span: Span

    def evaluate(self, _scope: Scope) -> Value:
        """Return the number."""
        return self.value


class Name(NamedTuple):
    """A symbol."""

    name: str
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return the symbol's value."""
        return scope.value_of(self.name, self.span)


class Here(NamedTuple):
    """The address of the statement, `.`."""

    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return the address."""
        return scope.here()


class Group(NamedTuple):
    """An expression in parentheses; operands tell `(cell)` from `cell` by it."""

    inner: Node
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return the value of what is inside."""
        return self.inner.evaluate(scope)


class Unary(NamedTuple):
    """A sign before a term."""

    sign: str
    term: Node
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return the term with the sign applied."""
        value = self.term.evaluate(scope)
        if self.sign == "~":
            if not isinstance(value, int):
                raise _misfit(self.sign, self.span, value)
            return ~value
        if not isinstance(value, int | float):
            raise _misfit(self.sign, self.span, value)
        if self.sign == "!":
            return int(not value)
        return -value if self.sign == "-" else value


class Binary(NamedTuple):
    """An operator between two terms; `span` is that of the whole."""

    sign: str
    left: Node
    right: Node
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return what the operator makes of the terms; both are always evaluated."""
        left, right = self.left.evaluate(scope), self.right.evaluate(scope)
        if isinstance(left, int) and isinstance(right, int):
            return _on_integers(self, left, right)
        if isinstance(left, Unplaced) or isinstance(right, Unplaced):
            return _on_unplaced(self, left, right)
        if isinstance(left, Bits) or isinstance(right, Bits):
            raise _misfit(self.sign, self.span, left, right)
        return _on_floats(self, left, right)


class Defined(NamedTuple):
    """`defined(NAME)`."""

    name: str
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return 1 or 0."""
        return int(scope.is_defined(self.name))


class FloatBits(NamedTuple):
    """`bits(N)`."""

    term: Node
    span: Span

    def evaluate(self, scope: Scope) -> Value:
        """Return the integer as the bits of a float."""
        value = self.term.evaluate(scope)
        if not isinstance(value, int):
            raise Fault(self.span, "bits() takes an integer", "write its value in hexadecimal")
        return Bits(value)


Node: TypeAlias = Constant | Name | Here | Group | Unary | Binary | Defined | FloatBits


# --- parser -----------------------------------------------------------------------------------
_LEVELS: Final = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">="), ("|",), ("^",), ("&",),
                  ("<<", ">>"), ("+", "-"), ("*", "/", "%"))  # fmt: skip
_BINDING: Final = {sign: level for level, signs in enumerate(_LEVELS, 1) for sign in signs}
#: Names that are functions when a parenthesis follows.
FUNCTIONS: Final = frozenset({"defined", "bits"})
_SIGNS: Final = frozenset("-+~!")
_SIGN_BINDING: Final = len(_LEVELS) + 1


class Cursor:
    """A position in the words of a line."""

    __slots__ = ("_terms", "index", "tokens")

    def __init__(self, tokens: list[Token], index: int = 0) -> None:
        assert tokens[-1].kind is TokenKind.END
        self.tokens = tokens
        self.index = index
        self._terms = 0

    @property
    def token(self) -> Token:
        """The next word."""
        return self.tokens[self.index]

    @property
    def at_end(self) -> bool:
        """Whether the words are used up."""
        return self.tokens[self.index].kind is TokenKind.END

    def take(self) -> Token:
        """Return the next word and pass it; the end is never passed."""
        token = self.tokens[self.index]
        if token.kind is not TokenKind.END:
            self.index += 1
        return token

    def at(self, sign: str) -> bool:
        """Return whether the next word is this sign."""
        token = self.tokens[self.index]
        return token.kind is TokenKind.SIGN and token.text == sign

    def accept(self, sign: str) -> bool:
        """Pass the sign if it comes next."""
        found = self.at(sign)
        self.index += found
        return found

    def expect(self, sign: str, where: str) -> Token:
        """Pass the sign; a fault if something else comes next."""
        if not self.at(sign):
            raise self.unexpected(f"'{sign}' is missing {where}", f"add '{sign}'")
        return self.take()

    def expect_name(self, what: str) -> Token:
        """Pass a name; `what` says which, for the fault if there is none."""
        if self.token.kind is not TokenKind.NAME:
            raise self.unexpected(f"{what} is missing", "write a name")
        return self.take()

    def expect_end(self) -> None:
        """Raise a fault if words are left."""
        if not self.at_end:
            raise self.unexpected(f"'{self.token.text}' is left over", "remove it")

    def unexpected(self, what: str, remedy: str) -> Fault:
        """Return a fault at the next word."""
        token = self.token
        return Fault(Span(token.start, max(token.end, token.start + 1)), what, remedy)

    def expression(self) -> Node:
        """Parse an expression."""
        self._terms = 0
        return self._climb(0)

    def _climb(self, binding: int) -> Node:
        """Parse an expression whose operators bind tighter than `binding`."""
        left = self._term()
        while True:
            token = self.tokens[self.index]
            tightness = _BINDING.get(token.text, 0) if token.kind is TokenKind.SIGN else 0
            if tightness <= binding:
                return left
            self.index += 1
            right = self._climb(tightness)
            left = Binary(token.text, left, right, Span(left.span.start, right.span.end))

    def _term(self) -> Node:
        token = self.tokens[self.index]
        self._terms += 1
        if self._terms > EXPRESSION_TERMS_MAX:
            limit = f"EXPRESSION_TERMS_MAX = {EXPRESSION_TERMS_MAX}"
            raise Fault(token.span, f"the expression is too long ({limit})", "split it with .equ")
        if token.kind in {TokenKind.INTEGER, TokenKind.FLOAT}:
            self.index += 1
            return Constant(token.value, token.span)
        if token.kind is TokenKind.NAME:
            self.index += 1
            return self._named(token)
        if token.kind is TokenKind.SIGN and token.text in _SIGNS:
            self.index += 1
            term = self._climb(_SIGN_BINDING)
            return Unary(token.text, term, Span(token.start, term.span.end))
        if self.at("("):
            self.index += 1
            inner = self._climb(0)
            end = self.expect(")", "after the expression")
            return Group(inner, Span(token.start, end.end))
        if self.at_end:
            raise self.unexpected("an expression is missing", "write a number or a name")
        raise self.unexpected(f"'{token.text}' begins no expression", "write a number or a name")

    def _named(self, token: Token) -> Node:
        if token.text == ".":
            return Here(token.span)
        if token.text not in FUNCTIONS or not self.accept("("):
            return Name(token.text, token.span)
        if token.text == "defined":
            name = self.expect_name("a name to ask for")
            end = self.expect(")", "after the name")
            return Defined(name.text, Span(token.start, end.end))
        term = self._climb(0)
        end = self.expect(")", "after the expression")
        return FloatBits(term, Span(token.start, end.end))


# --- arithmetic ------------------------------------------------------------------------------
def _divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainder(a: int, b: int) -> int:
    return a - b * _divide(a, b)


_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ON_INTEGERS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divide, "%": _remainder,
    "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift,
}  # fmt: skip
_ON_FLOATS: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
#: Operators that give 0 or 1.
_ON_BOTH: Final[dict[str, Callable[[float, float], bool]]] = {
    **_COMPARISONS,
    "&&": lambda a, b: bool(a) and bool(b),
    "||": lambda a, b: bool(a) or bool(b),
}
assert _ON_BOTH.keys() | _ON_INTEGERS.keys() == _BINDING.keys()


def _on_integers(node: Binary, left: int, right: int) -> int:
    sign = node.sign
    if sign in _ON_BOTH:
        return int(_ON_BOTH[sign](left, right))
    if sign in {"/", "%"} and right == 0:
        raise _zero_divisor(node)
    if sign in {"<<", ">>"} and not 0 <= right <= EXPRESSION_BITS_MAX:
        what = f"the shift count {right} is out of range"
        raise Fault(node.right.span, what, f"use 0 to {EXPRESSION_BITS_MAX}")
    result = _ON_INTEGERS[sign](left, right)
    if result.bit_length() > EXPRESSION_BITS_MAX:
        raise Fault(node.span, "the result is too large", "a cell holds 64 bits")
    return result


def _on_floats(node: Binary, left: float, right: float) -> Value:
    if node.sign in _ON_BOTH:
        return int(_ON_BOTH[node.sign](left, right))
    if node.sign not in _ON_FLOATS:
        raise _misfit(node.sign, node.span, left, right)
    if node.sign == "/" and right == 0:
        raise _zero_divisor(node)
    return _ON_FLOATS[node.sign](float(left), float(right))


def _on_unplaced(node: Binary, left: Value, right: Value) -> Value:
    match node.sign, left, right:
        case "-", Unplaced(), Unplaced():
            return left.offset - right.offset
        case "-", Unplaced(), int():
            return Unplaced(left.offset - right)
        case "+", Unplaced(), int():
            return Unplaced(left.offset + right)
        case "+", int(), Unplaced():
            return Unplaced(left + right.offset)
        case sign, Unplaced(), Unplaced() if sign in _COMPARISONS:
            return int(_COMPARISONS[sign](left.offset, right.offset))
    raise unplaced_fault(node.span)


def _zero_divisor(node: Binary) -> Fault:
    return Fault(node.right.span, "division by zero", "check the divisor")


def unplaced_fault(span: Span) -> Fault:
    """Return the fault of a size or condition that depends on where `.bss` will lie."""
    what = "the address of a label in .bss is not known yet"
    return Fault(span, what, "use differences of such labels here")


def _misfit(sign: str, span: Span, *values: Value) -> Fault:
    kinds = {
        Unplaced: "an address in .bss",
        Bits: "bits()",
        float: "a float",
    }
    found = sorted({kinds[type(v)] for v in values if type(v) in kinds})
    return Fault(span, f"'{sign}' cannot be applied to {' and '.join(found)}", "use integers")

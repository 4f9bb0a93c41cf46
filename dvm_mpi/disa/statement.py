"""One line of text as a statement, and operands as they are written.

A statement is labels, a head (mnemonic, directive or macro) with its suffixes, and arguments.
Operands are parsed here and get their values later: see `draft`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dvm_mpi.disa.expression import Cursor, Group, Node
from dvm_mpi.disa.lexer import Token, TokenKind, tokenize
from dvm_mpi.disa.source import Fault, SourceLine, Span, suggestion
from dvm_mpi.disa.table import BY_CONDITION, BY_MNEMONIC, EXIT_SUFFIXES, SWAPPED_CONDITIONS
from dvm_mpi.disa.types import BY_NAME, Mode

#: Shorter names of types: that of the papers, and its narrower kin.
TYPE_ALIASES: Final = {"q": "sq", "d": "sd", "w": "sw", "b": "sb"}
#: `m` before a type of `mov` is accepted, as programs of 2013 write it.
HISTORIC_PREFIX: Final = "m"
#: Marks a branch target that is encoded relative to the branch.
RELATIVE_SUFFIX: Final = "rel"

_SUFFIXES: Final = frozenset(
    BY_NAME.keys() | TYPE_ALIASES.keys() | BY_CONDITION.keys() | SWAPPED_CONDITIONS.keys()
    | EXIT_SUFFIXES.keys()
)  # fmt: skip


class Statement(NamedTuple):
    """One line, taken apart; `tokens` are the arguments, with END."""

    line: SourceLine
    labels: tuple[Token, ...]
    head: Token | None
    suffixes: tuple[Token, ...]
    tokens: list[Token]

    @property
    def name(self) -> str:
        """The head as it is looked up: without case."""
        return self.head.text.lower() if self.head else ""

    def arguments(self) -> str:
        """Return the text of the arguments as written, without a comment."""
        return self.line.text[self.arguments_start() : self.tokens[-1].start].strip()

    def arguments_start(self) -> int:
        """Return the column at which the arguments begin."""
        assert self.head is not None
        last = self.suffixes[-1] if self.suffixes else self.head
        return last.end


def parse_statement(line: SourceLine) -> Statement:
    """Take a line apart.

    Raises
    ------
    Fault
        The line is no statement, whatever names may mean.
    """
    tokens = tokenize(line.text)
    index = 0
    while _is_label(tokens, index):
        index += 2
    labels = tuple(tokens[:index:2])
    head = tokens[index]
    if head.kind is TokenKind.END:
        return Statement(line, labels, None, (), tokens[index:])
    if head.kind is not TokenKind.NAME:
        what = f"'{head.text}' begins no statement"
        raise Fault(head.span, what, "begin with a label, an instruction, a directive or a macro")
    equals = tokens[index + 1]
    if equals.kind is TokenKind.SIGN and equals.text == "=":
        # `NAME = value` is `.equ NAME, value`.
        comma = Token(TokenKind.SIGN, ",", equals.start, equals.end)
        equate = Token(TokenKind.NAME, ".equ", head.start, head.end)
        return Statement(line, labels, equate, (), [head, comma, *tokens[index + 2 :]])
    index += 1
    suffixes = []
    while _is_colon(tokens[index]):
        suffix = tokens[index + 1]
        if suffix.kind is not TokenKind.NAME:
            what = f"a suffix is missing after '{head.text}:'"
            remedy = "write a type or condition; a label cannot have the name of an instruction"
            raise Fault(head.span, what, remedy)
        suffixes.append(suffix)
        index += 2
    return Statement(line, labels, head, tuple(suffixes), tokens[index:])


def _is_colon(token: Token) -> bool:
    return token.kind is TokenKind.SIGN and token.text == ":"


def _is_label(tokens: list[Token], index: int) -> bool:
    """Tell `loop:` from `add:fd`, also where the instruction is misspelt."""
    token = tokens[index]
    if token.kind is not TokenKind.NAME or not _is_colon(tokens[index + 1]):
        return False
    if token.text.lower() in BY_MNEMONIC:
        return False
    after = tokens[index + 2]
    joined = after.start == tokens[index + 1].end == token.end + 1
    is_suffix = joined and after.text.lower() in _SUFFIXES
    return not is_suffix


# --- operands ---------------------------------------------------------------------------------
class WrittenOperand(NamedTuple):
    """An operand as written: expressions without values, and the type after it, if any."""

    mode: Mode
    node: Node
    displacement: Node | None
    suffix: Token | None
    span: Span


def parse_operand(cursor: Cursor) -> WrittenOperand:
    """Parse `$constant`, `cell`, `(cell)` or `displacement(cell)`, each with `:type` or without."""
    start = cursor.token.start
    displacement: Node | None = None
    if cursor.accept("$"):
        mode, node = Mode.IMMEDIATE, cursor.expression()
        if cursor.at("("):
            what = "a constant has no displacement"
            raise cursor.unexpected(what, "leave out '$', or the cell in parentheses")
    else:
        node = cursor.expression()
        if cursor.accept("("):
            mode, displacement = Mode.DISPLACED, node
            node = cursor.expression()
            cursor.expect(")", "after the cell")
        elif isinstance(node, Group):
            mode, node = Mode.INDIRECT, node.inner
        else:
            mode = Mode.DIRECT
    suffix = None
    if cursor.accept(":"):
        suffix = cursor.expect_name("a type after ':'")
    end = cursor.tokens[cursor.index - 1].end
    return WrittenOperand(mode, node, displacement, suffix, Span(start, end))


def parse_operands(cursor: Cursor) -> tuple[WrittenOperand, ...]:
    """Parse all that is left of the line as operands, separated by commas."""
    if cursor.token.kind is TokenKind.END:
        return ()
    operands = [parse_operand(cursor)]
    while cursor.accept(","):
        operands.append(parse_operand(cursor))
    if not cursor.at_end:
        raise cursor.unexpected(
            f"'{cursor.token.text}' is left over", "operands are separated by ','"
        )
    return tuple(operands)


def type_name(token: Token, *, historic: bool = False) -> str:
    """Return the type that a suffix names; `historic` admits `msq` for `sq`."""
    name = token.text.lower()
    if historic and name[:1] == HISTORIC_PREFIX and name[1:] in BY_NAME:
        name = name[1:]
    name = TYPE_ALIASES.get(name, name)
    if name not in BY_NAME:
        remedy = suggestion(token.text, BY_NAME, f"types are {', '.join(BY_NAME)}")
        raise Fault(token.span, f"'{token.text}' is not a type", remedy)
    return name

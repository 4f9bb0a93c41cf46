r"""Words of one line of DISA text.

Numbers are decimal (`1_000`), hexadecimal (`0x1F`), binary (`0b101`), octal (`0o17`, and as in C
`017`), characters (`'a'`, `'\n'`, `'\x41'`: one byte each) and decimal floats (`1.5`, `2e-3`).
Strings are in double quotes, with the escapes of C, and stand for their UTF-8 bytes. Comments
begin with `;` or `#` and end with the line. Names are made of letters, digits, `_` and `.`, and do
not begin with a digit; case matters in names, not in mnemonics, types and directives.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from dvm_mpi.config import EXPRESSION_BITS_MAX
from dvm_mpi.disa.source import Fault, Span


class TokenKind(Enum):
    """Kinds of words."""

    NAME = "name"
    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"
    SIGN = "sign"
    END = "end of line"


class Token(NamedTuple):
    """One word; `text` as written, columns half-open; `value` of numbers, `data` of strings."""

    kind: TokenKind
    text: str
    start: int
    end: int
    value: int | float = 0
    data: bytes = b""

    @property
    def span(self) -> Span:
        """The columns of the word."""
        return Span(self.start, self.end)


_WORDS: Final = re.compile(
    r"""[ \t\r]+
    |(?P<comment>[;\#].*)
    |(?P<number>0[xX]\w*|\.?[0-9](?:[eE][+-](?=[0-9])|[\w.])*)
    |(?P<name>[A-Za-z_.][\w.]*)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<char>'(?:[^'\\]|\\x[0-9A-Fa-f]{1,2}|\\.)')
    |(?P<sign><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>=()\[\],:$])
    |(?P<parameter>\\[\w@]*)
    |(?P<quote>["'])
    |(?P<other>.)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b",
                   "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}  # fmt: skip


def tokenize(text: str) -> list[Token]:
    """Return the words of a line; the last is END, at the column where the code ends.

    Raises
    ------
    Fault
        A character, number, string or escape that is none.
    """
    tokens: list[Token] = []
    end = len(text)
    for match in _WORDS.finditer(text):
        group = match.lastgroup
        if group is None:
            continue
        if group == "comment":
            end = match.start()
            break
        word, start, stop = match.group(), match.start(), match.end()
        if group == "name":
            tokens.append(Token(TokenKind.NAME, word, start, stop))
        elif group == "sign":
            tokens.append(Token(TokenKind.SIGN, word, start, stop))
        elif group == "number":
            tokens.append(_number(word, start, stop))
        elif group == "string":
            data = _unescape(word, start)
            tokens.append(Token(TokenKind.STRING, word, start, stop, 0, data))
        elif group == "char":
            tokens.append(_character(word, start, stop))
        else:
            raise _stray(group, word, start, stop)
    tokens.append(Token(TokenKind.END, "", end, end))
    return tokens


def _stray(group: str, word: str, start: int, end: int) -> Fault:
    span = Span(start, end)
    if group == "quote":
        return Fault(span, "a quote is opened and not closed", f"add the closing {word}")
    if group == "parameter":
        return Fault(
            span,
            f"'{word}' names no parameter of a macro",
            "use one that the .macro or .rept line lists",
        )
    return Fault(span, f"{word!r} does not belong here", "remove it")


def _number(word: str, start: int, end: int) -> Token:
    span = Span(start, end)
    octal = len(word) > 1 and word[0] == "0" and word.replace("_", "").isdigit()
    try:
        if octal:
            value = int(word, 8)
        elif word[:2].lower() in {"0x", "0b", "0o"} or word.replace("_", "").isdigit():
            value = int(word, 0)
        else:
            return Token(TokenKind.FLOAT, word, start, end, float(word))
    except ValueError:
        remedy = (
            "a leading 0 means octal, whose digits are 0 to 7"
            if octal
            else "write 10, 0x1F, 0b101, 0o17, 1.5 or 2e-3"
        )
        raise Fault(span, f"'{word[:40]}' is not a number", remedy) from None
    if value.bit_length() > EXPRESSION_BITS_MAX:
        raise Fault(span, "the number is too large", "a cell holds 64 bits")
    return Token(TokenKind.INTEGER, word, start, end, value)


def _unescape(word: str, start: int) -> bytes:
    r"""Return the bytes of a quoted word; `\xHH` is a byte, other characters are UTF-8."""
    body, data, position = word[1:-1], b"", 0
    for match in _ESCAPE.finditer(body):
        data += body[position : match.start()].encode()
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            data += bytes((int(code[1:], 16),))
        elif code in _ESCAPES:
            data += _ESCAPES[code].encode()
        else:
            span = Span(start + 1 + match.start(), start + 1 + match.end())
            remedy = r"use \n \t \r \0 \a \b \f \v \\ \' or \" or \xHH"
            raise Fault(span, f"'{match.group()}' is no escape", remedy)
        position = match.end()
    return data + body[position:].encode()


def _character(word: str, start: int, end: int) -> Token:
    data = _unescape(word, start)
    if len(data) != 1:
        span = Span(start, end)
        raise Fault(span, f"{word} is more than one byte", "use a string for it")
    return Token(TokenKind.INTEGER, word, start, end, data[0])

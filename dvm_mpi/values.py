"""Classes of values: `dataclass`, as the standard library has it, without its time at import.

`dataclasses.dataclass` writes six functions as text and compiles them, for each class, when its
module is imported: more than half a millisecond each, for two hundred classes on every rank, most
of which a run never makes an instance of. Here a function that all classes share fills the first
instances of a class, and `__init__` is written when there have been many; everything else is done
by shared functions too, and what the standard library's `fields`, `replace` and `asdict` look for
is made when they do. The type checker sees the standard library's. Fields may not be `ClassVar` or
`InitVar`, nor be called `self`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn

__all__ = ["dataclass", "field", "replace", "types_of"]

_NOTHING: Final[Any] = object()
#: Under this name a class keeps how it was declared.
_DECLARED: Final = "__declared__"
#: Instances of a class that the shared function fills. Each takes 2 us longer than by a function of
#: the class's own, which takes 160 us to write.
_UNWRITTEN_INSTANCES: Final = 80


class _Field:
    """What a class says of a field beside its type."""

    __slots__ = ("compare", "default", "default_factory", "repr")

    def __init__(self, default: Any, default_factory: Any, repr: bool, compare: bool) -> None:
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare


class _Declared:
    """How a class was declared.

    `types` are those of all fields, inherited ones first; `fields` has those of them about which
    more is said than the type.
    """

    __slots__ = ("compared", "fields", "is_frozen", "is_kw_only", "shown", "types")

    def __init__(
        self, types: dict[str, str], fields: dict[str, _Field], is_frozen: bool, is_kw_only: bool
    ) -> None:
        self.types = types
        self.fields = fields
        self.is_frozen = is_frozen
        self.is_kw_only = is_kw_only
        silent = {name for name, field in fields.items() if not field.repr}
        self.shown = [name for name in types if name not in silent]
        apart = {name for name, field in fields.items() if not field.compare}
        self.compared = _tuple_getter([name for name in types if name not in apart])


def _tuple_getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what makes a tuple of some attributes of an object."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _field(
    *,
    default: Any = _NOTHING,
    default_factory: Any = _NOTHING,
    repr: bool = True,
    compare: bool = True,
) -> _Field:
    return _Field(default, default_factory, repr, compare)


def _dataclass(
    cls: type | None = None,
    /,
    *,
    frozen: bool = False,
    slots: bool = False,
    eq: bool = True,
    kw_only: bool = False,
) -> Any:
    def declare(cls: type) -> type:
        return _declare(cls, frozen, slots, eq, kw_only)

    return declare if cls is None else declare(cls)


def _declare(cls: type, frozen: bool, slots: bool, eq: bool, kw_only: bool) -> type:
    own: dict[str, str] = cls.__annotations__
    inherited: _Declared | None = getattr(cls, _DECLARED, None)
    types: dict[str, str] = {} if inherited is None else dict(inherited.types)
    fields = {} if inherited is None else dict(inherited.fields)
    added = [name for name in own if name not in types]
    types |= own
    namespace = {
        name: value
        for name, value in vars(cls).items()
        if name not in own and name not in ("__dict__", "__weakref__")
    }
    for name in own:
        given = vars(cls).get(name, _NOTHING)
        if isinstance(given, _Field):
            fields[name] = given
        elif given is not _NOTHING:
            fields[name] = _Field(given, _NOTHING, True, True)
        if not slots and name in fields and fields[name].default is not _NOTHING:
            namespace[name] = fields[name].default
    namespace["__annotations__"] = own
    namespace[_DECLARED] = _Declared(types, fields, frozen, kw_only)
    namespace["__init__"] = _LateInit("__init__", _write_init)
    namespace["__dataclass_fields__"] = _Late("__dataclass_fields__", _standard)
    namespace["__dataclass_params__"] = _Late("__dataclass_params__", _standard)
    namespace["__match_args__"] = () if kw_only else tuple(types)
    namespace.setdefault("__repr__", _repr)
    if eq:
        namespace.setdefault("__eq__", _eq)
        # A class that compares has lost the hash that it had inherited, unless it says so itself.
        if namespace.get("__hash__") is None:
            namespace["__hash__"] = _hash if frozen else None
    if frozen:
        namespace["__setattr__"], namespace["__delattr__"] = _refuse, _refuse
    if slots:
        namespace["__slots__"] = tuple(added)
        if frozen:
            namespace["__getstate__"], namespace["__setstate__"] = _state, _take_state
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


class _Late:
    """Stands for an attribute of a class until somebody asks for it, and makes way for it then."""

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable[[type, str], Any]) -> None:
        self._name = name
        self._make = make

    def __get__(self, instance: object, owner: type) -> Any:
        cls = next(each for each in owner.__mro__ if vars(each).get(self._name) is self)
        made = self._make(cls, self._name)
        type.__setattr__(cls, self._name, made)
        return made if instance is None or not callable(made) else made.__get__(instance)


class _LateInit(_Late):
    """Stands for `__init__` of a class, and fills its first instances itself."""

    __slots__ = ("_filled",)

    def __init__(self, name: str, make: Callable[[type, str], Any]) -> None:
        super().__init__(name, make)
        self._filled = 0

    def __get__(self, instance: object, owner: type) -> Any:
        self._filled += 1
        if instance is None or self._filled > _UNWRITTEN_INSTANCES:
            return super().__get__(instance, owner)

        def fill(*given: Any, **named: Any) -> None:
            if not _fill(instance, getattr(owner, _DECLARED), given, named):
                # What is wrong with the call, the function itself says best.
                super(_LateInit, self).__get__(instance, owner)(*given, **named)

        return fill


def _fill(value: Any, declared: _Declared, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Do what the written `__init__` would; return False, and do nothing, if it would refuse."""
    names = iter(declared.types)
    if declared.is_kw_only and given:
        return False
    # In this order, since the shorter of both must not take one too many from the other.
    filled = {name: content for content, name in zip(given, names, strict=False)}
    if len(filled) < len(given):
        return False
    left = len(named)
    for name in names:
        if name in named:
            filled[name] = named[name]
            left -= 1
            continue
        field = declared.fields.get(name)
        if field is None:
            return False
        if field.default_factory is not _NOTHING:
            filled[name] = field.default_factory()
        elif field.default is not _NOTHING:
            filled[name] = field.default
        else:
            return False
    if left:
        return False
    for name, content in filled.items():
        object.__setattr__(value, name, content)
    if hasattr(value, "__post_init__"):
        value.__post_init__()
    return True


def _write_init(cls: type, name: str) -> Callable[..., None]:
    """Write the function `__init__` of a class, as text, and compile it."""
    declared: _Declared = getattr(cls, _DECLARED)
    scope: dict[str, Any] = {"_nothing": _NOTHING, "_put": object.__setattr__}
    parameters, lines = ["*"] if declared.is_kw_only and declared.types else [], []
    for number, field_name in enumerate(declared.types):
        field = declared.fields.get(field_name)
        value = parameter = field_name
        if field is not None and field.default_factory is not _NOTHING:
            scope[f"_make_{number}"] = field.default_factory
            parameter = f"{field_name}=_nothing"
            value = f"_make_{number}() if {field_name} is _nothing else {field_name}"
        elif field is not None and field.default is not _NOTHING:
            scope[f"_default_{number}"] = field.default
            parameter = f"{field_name}=_default_{number}"
        parameters.append(parameter)
        if declared.is_frozen:
            lines.append(f"_put(self, {field_name!r}, {value})")
        else:
            lines.append(f"self.{field_name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n ".join(lines or ["pass"])
    # Parameters have the names of fields, which could hide what the body needs but for this.
    hidden = scope.keys() & declared.types.keys()
    assert not hidden, f"{cls.__name__}: fields may not be called {sorted(hidden)}"
    exec(f"def {name}(self, {', '.join(parameters)}):\n {body}\n", scope)
    init: Any = scope[name]
    init.__qualname__ = f"{cls.__qualname__}.{name}"
    init.__module__ = cls.__module__
    init.__annotations__ = {**declared.types, "return": None}
    return init  # type: ignore[no-any-return]


def _standard(cls: type, name: str) -> Any:
    """Return what the standard library's functions look for in a class of values.

    It is taken from a class with the same fields that was made by the standard library.
    """
    import dataclasses  # noqa: PLC0415, most runs never need it

    declared: _Declared = getattr(cls, _DECLARED)
    namespace: dict[str, Any] = {"__annotations__": dict(declared.types), "__doc__": cls.__doc__}
    for field_name, field in declared.fields.items():
        given: dict[str, Any] = {"repr": field.repr, "compare": field.compare}
        if field.default_factory is not _NOTHING:
            given["default_factory"] = field.default_factory
        elif field.default is not _NOTHING:
            given["default"] = field.default
        namespace[field_name] = dataclasses.field(**given)
    twin: type = dataclasses.dataclass(
        type(cls.__name__, (), namespace), frozen=declared.is_frozen, kw_only=declared.is_kw_only
    )
    return getattr(twin, name)


# --- what all classes share --------------------------------------------------------------------


def _repr(self: Any) -> str:
    declared: _Declared = getattr(self, _DECLARED)
    told = ", ".join(f"{name}={getattr(self, name)!r}" for name in declared.shown)
    return f"{type(self).__qualname__}({told})"


def _eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    compared = getattr(self, _DECLARED).compared
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(getattr(self, _DECLARED).compared(self))


def _refuse(self: Any, name: str, *value: object) -> NoReturn:
    """Refuse a change of a frozen value."""
    import dataclasses  # noqa: PLC0415, only for the error

    what = "assign to" if value else "delete"
    raise dataclasses.FrozenInstanceError(f"cannot {what} field {name!r}")


def _state(self: Any) -> list[Any]:
    """Return what a frozen value is copied and pickled by."""
    return [getattr(self, name) for name in getattr(self, _DECLARED).types]


def _take_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(getattr(self, _DECLARED).types, state, strict=True):
        object.__setattr__(self, name, value)


def _replace(value: Any, /, **changes: Any) -> Any:
    for name in getattr(value, _DECLARED).types:
        if name not in changes:
            changes[name] = getattr(value, name)
    return type(value)(**changes)


def types_of(cls: type) -> dict[str, str]:
    """Return the types of a class's fields as they are written, by name, in order; not to change.

    Raises
    ------
    AttributeError
        This is no class of values.
    """
    declared: _Declared = getattr(cls, _DECLARED)
    return declared.types


if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    dataclass, field, replace = _dataclass, _field, _replace

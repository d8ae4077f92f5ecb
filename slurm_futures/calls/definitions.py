"""What functions and classes that travel by value consist of.

File names, line numbers and comments are not part of it; texts that document are,
since code may use them.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import dis
import importlib.util
import inspect
import itertools
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from slurm_futures.calls.atoms import ATOMS, shorten
from slurm_futures.calls.ctypes_reducers import FIELD
from slurm_futures.calls.origins import find_spec
from slurm_futures.calls.overlooked import LOOKS_IN_CLASSES

#: Attributes of classes that Python adds, some of them only when they are used.
_ADDED = frozenset(
    "__module__ __dict__ __weakref__ __slotnames__ _abc_impl __firstlineno__ "
    "__static_attributes__ __annotations_cache__ _value2member_map_ _inverted_".split()
)
_ADDED_AS_DEFAULT: tuple[Any, ...] = None, {}
_NO_DEFAULTS = frozenset({"__doc__", "__annotations__"})
#: What notebooks add to `builtins`: a method of theirs, which is not sent.
_NOT_SENT = "get_ipython"
_CONSTANTS = frozenset(dis.hasconst)
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_STORE_NAME = dis.opmap["STORE_NAME"]
_LOAD_GLOBAL = dis.opmap["LOAD_GLOBAL"]
_LOADS_NAME = {dis.opmap[each] for each in LOOKS_IN_CLASSES if each in dis.opmap}


class Code(NamedTuple):
    """What is known of a code object, with those inside of it."""

    encoding: bytes
    #: Names of global variables that it uses, or may use.
    variables: tuple[str, ...]
    #: What it imports, or may import; with dots in front if it is from its own package.
    imports: tuple[str, ...]
    #: All names, of attributes as well.
    names: frozenset[str]


class ModuleName(NamedTuple):
    """Stands for a module, which need not be loaded."""

    name: str


_known: dict[int, tuple[weakref.ref[types.CodeType], Code]] = {}


def describe_code_object(code: types.CodeType) -> Code:
    """Return what is known of a code object; it is looked through once."""
    key = id(code)
    known = _known.get(key)
    if known is None or known[0]() is not code:
        reference = weakref.ref(code, lambda _: _known.pop(key, None))
        known = _known[key] = reference, _look_through(code)
    return known[1]


def _look_through(code: types.CodeType) -> Code:
    inner = [
        describe_code_object(each)
        for each in code.co_consts
        if isinstance(each, types.CodeType)
    ]
    first = code.co_consts[0] if code.co_consts else None
    parts = (
        *(code.co_qualname, code.co_flags, first if isinstance(first, str) else None),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        *(code.co_varnames, code.co_cellvars, code.co_freevars, code.co_names),
        *(code.co_exceptiontable, _encode_body(code)),
    )
    variables = (_variables_in(code), *(each.variables for each in inner))
    imports = (_imports_in(code), *(each.imports for each in inner))
    return Code(
        shorten(b"C", b"".join(map(_encode_constant, parts))),
        tuple(dict.fromkeys(itertools.chain(*variables))),
        tuple(dict.fromkeys(itertools.chain(*imports))),
        frozenset(code.co_names).union(*(each.names for each in inner)),
    )


def _operations(code: types.CodeType) -> Iterator[tuple[int, int]]:
    raw, argument = code.co_code, 0
    for operation, low in zip(raw[::2], raw[1::2], strict=True):
        argument = argument << 8 | low
        if operation != dis.EXTENDED_ARG:
            yield operation, argument
            argument = 0


def _encode_body(code: types.CodeType) -> bytes:
    """Encode what is done, with the constants in their places.

    Their numbers would depend on line numbers, which are constants in the bodies of
    classes (Python 3.13).
    """
    found: list[bytes] = []
    others = dict(enumerate(code.co_consts))
    for operation, argument in _operations(code):
        meaning = b"%x;" % argument
        if operation in _CONSTANTS:
            meaning = _encode_constant(code.co_consts[argument])
            others.pop(argument, None)
        elif operation == _STORE_NAME and code.co_names[argument] == "__firstlineno__":
            found.pop()
        found.append(b"%c%b" % (operation, meaning))
    return b"".join((*found, _encode_constant(tuple(others.values()))))


def _variables_in(code: types.CodeType) -> Iterator[str]:
    for operation, argument in _operations(code):
        if operation == _LOAD_GLOBAL:
            yield code.co_names[argument >> 1]
        elif operation in _LOADS_NAME:
            yield code.co_names[argument]


def _imports_in(code: types.CodeType) -> Iterator[str]:
    constants: list[Any] = []
    for operation, argument in _operations(code):
        if operation in _CONSTANTS:
            constants.append(code.co_consts[argument])
        elif operation == _IMPORT_NAME:
            level, names = constants[-2:]
            module = "." * level + code.co_names[argument]
            yield module
            for name in names or ():  # which may be modules
                yield f"{module}.{name}" if module.strip(".") else module + name


def _encode_constant(value: Any) -> bytes:
    kind = type(value)
    if kind in ATOMS:
        return ATOMS[kind](value)
    if kind is types.CodeType:
        return describe_code_object(value).encoding
    if kind is slice:  # Python 3.14
        return b"/" + _encode_constant((value.start, value.stop, value.step))
    assert kind is tuple or kind is frozenset, kind
    encoded = map(_encode_constant, value)
    if kind is tuple:
        return shorten(b"t", b"".join(encoded))
    return shorten(b"z", b"".join(sorted(encoded)))


def parts_of_function(function: types.FunctionType) -> tuple[Any, ...]:
    """Return what a function consists of, with the global variables that it uses."""
    code = describe_code_object(function.__code__)
    names = function.__module__, function.__qualname__, function.__name__
    return (
        *("function", names, function.__doc__, function.__annotations__),
        *(code.encoding, function.__defaults__, function.__kwdefaults__),
        tuple(map(_look_into, function.__closure__ or ())),
        (*_variables(function, code), *_imported(function, code)),
        vars(function),
    )


def _look_into(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()


def _variables(function: types.FunctionType, code: Code) -> Iterator[tuple[Any, ...]]:
    for name in code.variables:
        for names in (function.__globals__, vars(builtins)):
            if name in names and name != _NOT_SENT:
                yield name, names[name]
                if isinstance(names[name], types.ModuleType):
                    yield from _submodules(names[name].__name__, code.names)
                break
        else:
            yield (name,)


def _imported(function: types.FunctionType, code: Code) -> Iterator[tuple[Any, ...]]:
    package = function.__globals__.get("__package__")
    for name in code.imports:
        with contextlib.suppress(ImportError):  # what is not there
            full = importlib.util.resolve_name(name, package)
            if find_spec(full) is not None:
                yield name, ModuleName(full)
                yield from _submodules(full, code.names)


def _submodules(
    package: str, names: frozenset[str]
) -> Iterator[tuple[str, ModuleName]]:
    """Yield modules that may be found as attributes of a package, loaded or not."""
    for name in sorted(names):
        full = f"{package}.{name}"
        if find_spec(full) is not None:
            yield name, ModuleName(full)
            yield from _submodules(full, names)


def parts_of_class(cls: type) -> tuple[Any, ...]:
    """Return what a class consists of."""
    names = vars(cls)
    members: Any = names.get("_member_map_", {})
    attributes = [
        (name, value)
        for name, value in names.items()
        if name not in _ADDED and name not in members and not _is_left_out(cls, name)
    ]
    registered = _registered(cls) if isinstance(cls, abc.ABCMeta) else []
    head = "class", cls.__module__, cls.__qualname__, type(cls), cls.__bases__
    return *head, attributes, registered


def _is_left_out(cls: type, name: str) -> bool:
    names: Mapping[str, Any] = vars(cls)
    value = names[name]
    if name in _NO_DEFAULTS and value in _ADDED_AS_DEFAULT:
        return True
    if name == "__doc__" and "__dataclass_fields__" in names:
        # Made of the fields, with the addresses of their defaults in it.
        return str(value).startswith(f"{cls.__name__}(")
    made_with_class = getattr(value, "__objclass__", None) is cls
    return isinstance(value, FIELD) or (
        made_with_class and inspect.isdatadescriptor(value)
    )


def _registered(cls: abc.ABCMeta) -> list[type]:
    """Return what has been declared to be a subclass, in an order of its own."""
    dump: Any = vars(abc)["_get_dump"]
    found = [reference() for reference in dump(cls)[0]]
    known = [each for each in found if each is not None]
    return sorted(known, key=lambda each: (each.__module__, each.__qualname__))

"""Unpickles functions that travel by value, mostly without cloudpickle.

To import cloudpickle takes a job longer than everything else in its start together
(`benchmarks/worker_start.py`). What lambdas, closures and functions of `__main__` need
of it is little: the functions below, which do what those of the same names in
cloudpickle 3.0 and 3.1 do (compared in `tests/unit/node/test_unpickler.py`). For all
else that is pickled by value, classes above all, cloudpickle itself is imported.
"""

from __future__ import annotations

import builtins
import sys
import types

from .classes import ClassFinder

try:
    from _pickle import Unpickler, loads
except ImportError:  # not CPython
    from pickle import Unpickler, loads

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: Releases of cloudpickle whose pickles are known to need nothing else.
KNOWN_RELEASES = frozenset({"3.0", "3.1"})


class OutcomeUnpickler(ClassFinder):
    """Loads what a call has left, and leaves the classes that are here as they are.

    With an instance of a class that travels by value comes the class, as it was in the
    job. cloudpickle gives what comes to the class that is here: its attributes would go
    back to what they were when the call was submitted, and its methods would not see
    what becomes of the global variables of the program.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle refers to by its name."""
        found = super().find_class(module, name)
        if (module, name) == ("cloudpickle.cloudpickle", "_class_setstate"):
            return self._leaving(found)
        return found

    def _leaving(self, set_state: Callable[[type, Any], type]) -> Callable[..., type]:
        def set_state_of_new(cls: type, state: Any) -> type:
            if any(cls is known for known in self.known):
                return cls
            return set_state(cls, state)

        return set_state_of_new


def load_outcome(blob: bytes) -> Any:
    """Unpickle what a call has left; see OutcomeUnpickler."""
    if b"cloudpickle" not in blob:
        return loads(blob)
    from io import BytesIO

    return load_and_let_go(OutcomeUnpickler(BytesIO(blob)))


def load_and_let_go(unpickler: Unpickler) -> Any:
    """Unpickle, so that all that nobody else holds is free at once.

    Among what an unpickler remembers are functions that refer to it: in such a cycle
    it would keep all that it has loaded until the garbage is collected.
    """
    try:
        return unpickler.load()
    finally:
        unpickler.memo.clear()


class ByValueUnpickler(ClassFinder):
    """Loads what the client has pickled.

    Attributes:
        import_ours: imports cloudpickle, whatever else has such a name.
        made: functions and classes that were not found by a name, in the order in
            which they were complete; to be set.
        objects: the large objects for the places from which the client took them.
        main: the global variables of `__main__` for the functions of this pickle.
        version: of Python on the client, (3, 11).
        without_cloudpickle: whether its release on the client is a known one.
    """

    import_ours: Callable[[str], object] = staticmethod(__import__)
    made: list[Any]
    objects: Sequence[Any] = ()
    version: tuple[int, ...] = sys.version_info[:2]
    without_cloudpickle = False

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.main: dict[str, Any] = dict(kept.names)
        self._namespace: dict[str, Any] | None = None

    def persistent_load(self, pid: Any) -> Any:
        """Return the object for a place."""
        return self.objects[pid]

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle refers to by its name.

        Raises:
            RuntimeError: it is for making functions of another Python's code, which
                might crash this one.
        """
        if name == "_make_function" and self.version != sys.version_info[:2]:
            raise RuntimeError(foreign_code(self.version, sys.version_info[:2]))
        if module != "cloudpickle.cloudpickle":
            found = super().find_class(module, name)
            is_cache = (module, name) == ("functools", "_lru_cache_wrapper")
            return _noting_new(found, self.made) if is_cache else found
        found = _FUNCTIONS.get(name)
        if found is None or not self.without_cloudpickle or module in sys.modules:
            self.import_ours(module)
            found = super().find_class(module, name)
        if name == "_make_function":
            return self._making_in_main(found)
        if name in {"_function_setstate", "_class_setstate"}:
            keep = kept.in_class if name == "_class_setstate" else kept.in_function
            return _noting(found, self.made, keep)
        return found

    def _making_in_main(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes functions which share their global variables.

        One pickle has the same `namespace` for all functions of a module. Another one
        of the name is, say, that of a doctest, and stays what it is.
        """

        def make_in_main(code: Any, namespace: dict[str, Any], *rest: Any) -> Any:
            if namespace.get("__name__") == "__main__":
                if self._namespace is None:
                    self._namespace = namespace
                    self.main.update(namespace)
                if namespace is self._namespace:
                    namespace = self.main
            return make(code, namespace, *rest)

        return make_in_main


class Kept:
    """What an initializer has left in `__main__`: calls find it as it is.

    The client sends the global variables of `__main__` and the attributes of its
    classes with the initializer and again with each call. What the initializer has
    assigned, and objects that it may have changed, hide what is sent with calls.
    """

    def __init__(self) -> None:
        #: Global variables.
        self.names: dict[str, Any] = {}
        self._classes: list[tuple[type, dict[str, Any]]] = []

    def keep(
        self,
        sent: dict[str, Any],
        main: dict[str, Any],
        classes: Sequence[tuple[type, dict[str, Any]]],
    ) -> None:
        """Keep what there is after the initializer has run.

        Args:
            sent: the global variables as they were before it ran.
            main: these variables now.
            classes: of the initializer, with their attributes before it ran.
        """
        self.names = _changed(sent, main)
        self._classes = [
            (cls, _changed(before, dict(vars(cls)))) for cls, before in classes
        ]

    def in_function(self, _: Any, state: Any) -> None:
        """Remove what is kept from the state of a function."""
        names = state[1]["__globals__"]
        for name in names.keys() & self.names.keys():
            names[name] = self.names[name]

    def in_class(self, cls: type, state: Any) -> None:
        """Remove what is kept from the state of a class, or can be set only once."""
        if "_fields_" in vars(cls):  # of ctypes
            state[0].pop("_fields_", None)
        for known, attributes in self._classes:
            if known is cls:
                for name in state[0].keys() & attributes.keys():
                    del state[0][name]


#: Of this job.
kept = Kept()

#: Types of which no object can be changed.
_CONSTANT = (int, float, complex, str, bytes, type(None), type, types.ModuleType)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what is new, or may have been changed."""
    missing = object()
    found = {}
    for name, value in after.items():
        if name[:2] == "__":
            continue
        same = value is before.get(name, missing)
        # Functions, properties and so on count as constant.
        if not same or (
            not isinstance(value, _CONSTANT) and not hasattr(type(value), "__get__")
        ):
            found[name] = value
    return found


def _noting(
    set_state: Callable[[Any, Any], Any],
    made: list[Any],
    keep: Callable[[Any, Any], None],
) -> Callable[[Any, Any], Any]:
    """Return a function that fills what has been made, and adds it to the list."""

    def set_state_and_note(obj: Any, state: Any) -> Any:
        made.append(obj)
        keep(obj, state)
        return set_state(obj, state)

    return set_state_and_note


def _noting_new(make: Callable[..., Any], made: list[Any]) -> Callable[..., Any]:
    """Return a function that makes an object, and adds it to the list."""

    def make_and_note(*args: Any) -> Any:
        made.append(make(*args))
        return made[-1]

    return make_and_note


def names_in_main(made: Sequence[Any], root: Any) -> dict[str, Any]:
    """Return what `__main__` of the client is known to hold, by its name there.

    Args:
        made: functions and classes that were not found by a name; what decorates
            another one comes after it.
        root: the object that was loaded; a decorator may have made it.
    """
    names = {}
    for each in (*made, root):
        if getattr(each, "__module__", None) != "__main__":
            continue
        name = getattr(each, "__qualname__", None)
        if name is not None and name == getattr(each, "__name__", None):
            names[name] = each
    for each in made:
        if isinstance(each, types.FunctionType):
            known = each.__globals__
            if known.get("__name__") == "__main__":
                names.update(item for item in known.items() if item[0][:2] != "__")
    return names


def foreign_code(theirs: Sequence[int], ours: Sequence[int]) -> str:
    """Say why functions of the client do not run here, or the other way round."""
    client, node = ("{}.{}".format(*version) for version in (theirs, ours))
    return (
        f"The program runs on Python {client}, the job on Python {node}. Lambdas, and "
        "functions and classes of __main__, are sent as the code of one minor version "
        "that another one cannot run. Give the nodes the same one, "
        f'SlurmExecutor(python=".../python{client}"), or put the functions into a '
        "module that both can import."
    )


def release_of(version: str) -> str:
    """Return the release to which a version belongs: 3.1 for 3.1.2."""
    return ".".join(version.split(".")[:2])


def _builtin_type(name: str) -> Any:
    return type if name == "ClassType" else getattr(types, name)


def _subimport(name: str) -> types.ModuleType:
    __import__(name)
    return sys.modules[name]


def _make_function(
    code: types.CodeType,
    namespace: dict[str, Any],
    name: str | None,
    defaults: tuple[Any, ...] | None,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    namespace["__builtins__"] = vars(builtins)
    return types.FunctionType(code, namespace, name, defaults, closure)


def _function_setstate(
    function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    attributes, slots = state
    function.__dict__.update(attributes)
    slots.pop("_cloudpickle_submodules")  # they are imported: that is all
    function.__globals__.update(slots.pop("__globals__"))
    function.__globals__["__builtins__"] = vars(builtins)
    for own, cell in zip(
        function.__closure__ or (), slots.pop("__closure__") or (), strict=True
    ):
        try:
            own.cell_contents = cell.cell_contents
        except ValueError:  # it is empty
            continue
    for name, value in slots.items():
        setattr(function, name, value)


_FUNCTIONS: dict[str, Any] = {
    "_builtin_type": _builtin_type,
    "subimport": _subimport,
    "_make_empty_cell": types.CellType,
    "_make_cell": types.CellType,
    "_make_function": _make_function,
    "_function_setstate": _function_setstate,
}

"""Makes classes that travel by value, without running the program's own code for it.

Where a class was made, its metaclass and the `__init_subclass__` of its bases have had
their say: what they did to the class is in its attributes, and what they did elsewhere
in `__main__` travels as well. To run them again would do all that twice, and without
the keyword arguments of the class, which nobody knows any more. Those of modules that
are imported here run all the same: the module may keep a list of its classes.
"""

from __future__ import annotations

import abc
import sys
import types

try:
    from _pickle import Unpickler
except ImportError:  # not CPython
    from pickle import Unpickler

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HOOK = "__init_subclass__"


class ClassFinder(Unpickler):
    """Finds the classes that cloudpickle has seen in this process, or makes them.

    cloudpickle finds them too, but makes them once more before it looks.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        #: The classes of this pickle that were here before.
        self.known: list[type] = []

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle refers to by its name."""
        found = super().find_class(module, name)
        if module == "cloudpickle.cloudpickle":
            if name in {"_make_skeleton_class", "_make_skeleton_enum"}:
                return self._finding(found)
            if name == "_class_setstate":
                return _setting_plainly(found)
        return found

    def _finding(self, make: Callable[..., type]) -> Callable[..., type]:
        tracked = _of_cloudpickle().get("_DYNAMIC_CLASS_TRACKER_BY_ID", {})

        def find_or_make(*args: Any) -> type:
            known: type | None = tracked.get(args[-2])
            if known is None:
                return make_class(make, args)
            self.known.append(known)
            return known

        return find_or_make


def _of_cloudpickle() -> dict[str, Any]:
    return vars(sys.modules["cloudpickle.cloudpickle"])


def make_class(make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """Make a class, which is given its attributes afterwards.

    Args:
        make: what makes one in cloudpickle.
        args: of this; the last one is None, or true if the metaclass must not be asked.

    Raises:
        TypeError: it cannot be made.
    """
    if make.__name__ != "_make_skeleton_class":
        return make(*args)
    metaclass, name, bases, *_, bare = args
    attempts = [make, _make_bare_class]
    if bare or _runs_what_travels(metaclass, bases):
        attempts.reverse()
    try:
        return attempts[0](*args)
    except Exception as error:  # noqa: BLE001  (whatever the program may raise)
        try:
            return attempts[1](*args)
        except Exception:  # noqa: BLE001  (the first one tells more)
            raise TypeError(
                f"cannot make the class {name} once more ({error!r}): put it into a "
                "module that the job can import"
            ) from error


def _runs_what_travels(metaclass: type, bases: tuple[Any, ...]) -> bool:
    """Whether to make such a class would run code that travels by value, too."""
    by_value = _of_cloudpickle().get("_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    if any(each in by_value for each in metaclass.__mro__):
        return True
    return any(
        each in by_value and _HOOK in vars(each)
        for base in types.resolve_bases(bases)
        for each in base.__mro__
    )


def _make_bare_class(
    metaclass: type,
    name: str,
    bases: tuple[Any, ...],
    attributes: dict[str, Any],
    tracker_id: str,
    _: object,
) -> type:
    """Make a class as `type` does, if its metaclass is one that was made in Python."""
    if _not_of_python(metaclass, "__new__") is not type:
        raise TypeError(f"its metaclass {metaclass.__name__} is not made in Python")
    resolved = types.resolve_bases(bases)
    if resolved is not bases:
        attributes = {**attributes, "__orig_bases__": bases}
    catch = _Catch()
    try:
        type.__new__(metaclass, name, resolved, {**attributes, catch.name: catch})
    except Exception:  # of `catch`, or what Python makes of it
        if catch.made is None:
            raise
    cls = catch.made
    assert cls is not None
    type.__delattr__(cls, catch.name)
    if isinstance(cls, abc.ABCMeta):
        abc._abc_init(cls)  # type: ignore[attr-defined]
    track: Callable[..., type] = _of_cloudpickle()["_lookup_class_or_track"]
    return track(tracker_id, cls)


class _Catch:
    """Catches a class that is complete, before it is shown to its bases.

    `type.__new__` tells first the attributes, then the bases, of a new class. What an
    attribute raises goes to the caller.
    """

    name = "_slurm_futures_catch"

    def __init__(self) -> None:
        self.made: type | None = None

    def __set_name__(self, owner: type, _: str) -> None:
        self.made = owner
        raise LookupError("this is all that is wanted")


def _not_of_python(metaclass: type, method: str) -> type:
    """Return the class from which a metaclass has a method that is not a function."""
    return next(
        each
        for each in metaclass.__mro__
        if method in vars(each)
        and not isinstance(vars(each)[method], (types.FunctionType, staticmethod))
    )


def _setting_plainly(set_state: Callable[[Any, Any], Any]) -> Callable[..., None]:
    """Return a function that sets attributes without the `__setattr__` of a program.

    An enumeration has one, too, that lets nobody set its members.
    """

    def set_state_plainly(cls: type, state: Any) -> None:
        own = isinstance(type(cls).__setattr__, types.FunctionType)
        set_state(_Plainly(cls) if own else cls, state)

    return set_state_plainly


class _Plainly:
    """Stands for a class while it is given its attributes."""

    def __init__(self, cls: type) -> None:
        setter = _not_of_python(type(cls), "__setattr__")
        vars(self).update(_cls=cls, _set=setter.__setattr__)

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["_set"](vars(self)["_cls"], name, value)

    def register(self, subclass: type) -> None:
        """Take a class for one that derives from it."""
        abc.ABCMeta.register(vars(self)["_cls"], subclass)

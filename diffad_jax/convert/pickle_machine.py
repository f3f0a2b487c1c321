"""Reads a pickle without running it; the pickle's length bounds time and memory.

A pickle is a program for a stack machine, and may name and call any Python function. This machine
knows only the steps that make data. A global stays a name (``Global``). A call is looked up in the
caller's table. Nothing is ever imported.

Python's own ``Unpickler`` with a short ``find_class`` runs nothing either. But a key of nested
tuples overflows its stack, and a large memo number makes it allocate gigabytes.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from diffad_jax.convert.errors import ConvertError

MAX_STEPS = 500_000  # a tensor takes about 40
MAX_INTEGER = 2**63  # hashing a long one takes time each time
_MAX_ARGUMENTS = 8
_KEYS = (str, bytes, int, float, bool, type(None))  # what a dict key may be
_LITERALS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function in a pickle; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return ascii(f"{self.module[:100]}.{self.name[:100]}")[1:-1]  # safe to print


def load(
    file: BinaryIO,
    *,
    calls: Mapping[tuple[str, str], Callable[..., Any]],
    persistent: Callable[[Any], Any],
    source: str,
) -> Any:
    """The object that a pickle describes, of dicts, lists, tuples, literals and ``Global``.

    Args:
      file: in memory, at the start of a pickle of protocol 2 to 5; afterwards at its end.
      calls: (module, name) -> the function to call here in its place; no other call is made. These
        functions and ``persistent`` raise ValueError or TypeError for arguments that they do not
        take. They must not walk through or print their arguments, whose nesting has no bound.
      persistent: gives the object for a persistent id.
      source: the file's name, for messages.

    Raises:
      ConvertError: the pickle is damaged or too long, calls something else, or sets an object's
        state.
    """
    machine = _Machine(calls, persistent, source)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "STOP":
                return machine.pop()
            if count == MAX_STEPS:
                raise ConvertError(f"{source}: its pickle has over {MAX_STEPS} steps: refused")
            machine.step(opcode.name, argument)
    except ConvertError:
        raise
    except Exception as error:  # whatever nonsense makes the machine stumble over
        # Messages of other errors than ours and pickletools' may print the file's objects.
        reason = str(error)[:200] if type(error) is ValueError else type(error).__name__
        raise ConvertError(f"{source}: its pickle is damaged ({reason})") from None


class _Machine:
    def __init__(self, calls, persistent, source: str):
        self._calls, self._persistent, self._source = calls, persistent, source
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        push = self._stack.append
        if name in _LITERALS:
            if type(argument) is int and not -MAX_INTEGER <= argument < MAX_INTEGER:
                raise ValueError("an integer of over 64 bits")
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _SHORT_TUPLES:
            push(tuple(self.pop() for _ in range(_SHORT_TUPLES[name]))[::-1])
        else:
            self._other(name, argument, push)

    def pop(self) -> Any:
        return self._stack.pop()

    def _other(self, name: str, argument: Any, push: Callable[[Any], None]) -> None:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE":
                push(tuple(self._pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = [self.pop()] if name == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self._pop_to_mark()
                pairs = zip(items[::2], items[1::2], strict=True)
                self._top(dict).update(checked_dict(pairs))
            case "GLOBAL":
                push(Global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                if not type(attribute) is type(module) is str:
                    raise ValueError("the name of a global is no text")
                push(Global(module, attribute))
            case "BINPERSID":
                push(self._persistent(self.pop()))
            case "REDUCE":
                push(self._call(self.pop(), self.pop()))
            case "NEWOBJ" | "NEWOBJ_EX":
                parts = [self.pop() for _ in range(2 if name == "NEWOBJ" else 3)]
                self._refuse(f"make an object of {_shown(parts[-1])}")
            case "OBJ":
                self._refuse(f"make an object of {_shown(self._pop_to_mark()[0])}")
            case "BUILD":
                self.pop()  # the attributes of an OrderedDict (its _metadata) are dropped
                if type(self._stack[-1]) is not dict:
                    self._refuse(f"set the state of {_shown(self._stack[-1])}")
            case _:
                self._refuse(f"use the pickle opcode {name}")

    def _call(self, arguments: Any, function: Any) -> Any:
        if type(function) is not Global:
            raise ValueError(f"a call of a {type(function).__name__}")
        if (call := self._calls.get((function.module, function.name))) is None:
            self._refuse(f"run {function}")
        if type(arguments) is not tuple or len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f"a call of {function} with impossible arguments")
        return call(*arguments)

    def _refuse(self, what: str) -> None:
        raise ConvertError(
            f"{self._source} wants to {what}: refused, since a file of weights needs no such "
            "thing. If you trust the file, re-save its state_dict alone with PyTorch."
        )

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"something is put into a {type(self._stack[-1]).__name__}")
        return self._stack[-1]


def checked_dict(pairs: Iterable[tuple[Any, Any]]) -> dict:
    """Raises ValueError for a tuple as a key.

    Hashing walks through all its items: for ever, or until the stack overflows.
    """
    found = {}
    for key, value in pairs:
        if type(key) not in (*_KEYS, Global):
            raise ValueError(f"a {type(key).__name__} as a key")
        found[key] = value
    return found


def _shown(value: Any) -> str:
    return str(value) if type(value) is Global else f"a {type(value).__name__}"

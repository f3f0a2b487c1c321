"""Reads a pickle without running it.

A pickle is a program for a stack machine that may name any Python function and call it. This
machine knows the opcodes that make data. A global stays a name (``Global``); it may lie about as
data, but a call is looked up in the caller's table and refused if it isn't there. Nothing is ever
imported.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from diffad_jax.convert.errors import ConvertError

_MARK = object()
_KEYS = (str, bytes, int, float, bool, type(None))  # what a dict key or a member of a set may be
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of a class or function in a pickle; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def load(
    data: bytes,
    *,
    calls: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any],
    source: str,
) -> Any:
    """The object that a pickle describes, of plain containers, literals and ``Global``.

    Args:
      data: the pickle, any protocol.
      calls: "module.name" -> what a call of that global does here; no other call is made.
      persistent: gives the object for a persistent id.
      source: the file's name, for messages.

    Raises:
      ConvertError: the pickle is damaged, wants to call something else, or to set its state.
    """
    machine = _Machine(calls, persistent, source)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except ConvertError:
        raise
    except Exception as error:  # whatever nonsense makes the machine stumble over
        raise ConvertError(f"{source}: its pickle is damaged ({error})") from error
    raise ConvertError(f"{source}: its pickle is damaged (it has no end)")


class _Machine:
    def __init__(self, calls, persistent, source: str):
        self._calls, self._persistent, self._source = calls, persistent, source
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _SHORT_TUPLES:
            self._stack.append(tuple(self.pop() for _ in range(_SHORT_TUPLES[name]))[::-1])
        elif not (self._remember(name, argument) or self._collect(name)):
            self._name_or_call(name, argument)

    def pop(self) -> Any:
        return self._stack.pop()

    def _remember(self, name: str, argument: Any) -> bool:
        """Stack and memo."""
        match name:
            case "PROTO" | "FRAME":
                pass
            case "POP":
                self.pop()
            case "POP_MARK":
                self._pop_to_mark()
            case "DUP":
                self._stack.append(self._stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case _:
                return False
        return True

    def _collect(self, name: str) -> bool:
        """Containers."""
        match name:
            case "TUPLE":
                self._stack.append(tuple(self._pop_to_mark()))
            case "LIST":
                self._stack.append(self._pop_to_mark())
            case "DICT":
                items = self._pop_to_mark()
                self._stack.append({})
                self._set_items(items)
            case "FROZENSET":
                self._stack.append(frozenset(map(self._key, self._pop_to_mark())))
            case "APPEND":
                item = self.pop()
                self._top(list).append(item)
            case "APPENDS":
                items = self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case "ADDITEMS":
                items = self._pop_to_mark()
                self._top(set).update(map(self._key, items))
            case _:
                return False
        return True

    def _name_or_call(self, name: str, argument: Any) -> None:
        match name:
            case "GLOBAL":
                self._stack.append(Global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self._stack.append(Global(str(module), str(attribute)))
            case "BINPERSID":
                self._stack.append(self._persistent(self.pop()))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                if str(function) not in self._calls:
                    self._refuse(f"run {function}")
                self._stack.append(self._calls[str(function)](*arguments))
            case "NEWOBJ" | "NEWOBJ_EX":
                parts = [self.pop() for _ in range(2 if name == "NEWOBJ" else 3)]
                self._refuse(f"make an object of {parts[-1]}")
            case "OBJ":
                self._refuse(f"make an object of {self._pop_to_mark()[0]}")
            case "INST":
                self._refuse(f"make an object of {argument.replace(' ', '.')}")
            case "BUILD":
                self.pop()  # the attributes of an OrderedDict (its _metadata) are dropped
                if type(self._stack[-1]) is not dict:
                    self._refuse(f"set the state of {self._stack[-1]}")
            case _:
                self._refuse(f"use the pickle opcode {name}")

    def _refuse(self, what: str) -> None:
        raise ConvertError(
            f"{self._source} wants to {what[:200]}: refused, since a file of weights needs no such "
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

    def _set_items(self, items: list[Any]) -> None:
        keys = map(self._key, items[::2])
        self._top(dict).update(zip(keys, items[1::2], strict=True))

    def _key(self, key: Any) -> Any:
        if not isinstance(key, (*_KEYS, Global)):  # a deeply nested tuple would crash its hash
            raise ValueError(f"a {type(key).__name__} as a key")
        return key

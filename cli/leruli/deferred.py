"""Not importing what a library brings along and this client never calls.

`import minio` also imports what its administration of servers encrypts with: pycryptodome, argon2,
cffi and a parser of C, half of what all of it takes. That is imported when somebody calls it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(module: str, *functions: str) -> Iterator[None]:
    """Have functions stand for those of a module while the block imports others that import it.

    The first call of one imports the module. Anything else of it that is asked for in the block
    does so too, and whoever imports it after the block gets the module itself.
    """
    if module in sys.modules:
        yield
        return
    stand_in = _StandIn(module)
    for name in functions:
        setattr(stand_in, name, _later(module, name))
    sys.modules[module] = stand_in
    try:
        yield
    finally:
        _remove_stand_in(module)


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for some
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _later(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(_real(module), name)(*arguments, **named)

    return call


def _real(module: str) -> ModuleType:
    _remove_stand_in(module)
    return importlib.import_module(module)


def _remove_stand_in(module: str) -> None:
    if isinstance(sys.modules.get(module), _StandIn):
        del sys.modules[module]

"""Importing minio without the cryptography that this client never calls.

`import minio` also imports minio.crypto, for the administration of servers: pycryptodome, argon2,
cffi and a parser of C. With a stub in its place `import leruli.storage.sdk` takes 574 ms of CPU
time instead of 728 (medians of 5, loaded machine of 2 cores): 100 to 170 ms less for each command.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def lazy_module(module: str, *functions: str) -> Iterator[None]:
    """Within the block, `module` is a stub whose `functions` import the real module when called.

    Any other attribute of the stub imports the real module at once. After the block an import gives
    the real module.
    """
    if module in sys.modules:
        yield
        return
    stub = _Stub(module)
    for name in functions:
        setattr(stub, name, _later(module, name))
    sys.modules[module] = stub
    try:
        yield
    finally:
        _remove_stub(module)


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for some of these
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _later(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(_real(module), name)(*arguments, **named)

    return call


def _real(module: str) -> ModuleType:
    _remove_stub(module)
    return importlib.import_module(module)


def _remove_stub(module: str) -> None:
    if isinstance(sys.modules.get(module), _Stub):
        del sys.modules[module]

"""Families whose members lie in a folder, a module each: a new member is a new file, and nothing else is
touched.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


def members(package: ModuleType, name: str) -> list[Any]:
    """Return what each module of `package` defines as `name`, in the order of the modules' names."""
    modules = [import_module(f"{package.__name__}.{each.name}") for each in iter_modules(package.__path__)]
    return [vars(module)[name] for module in modules if name in vars(module)]

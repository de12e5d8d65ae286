"""Loaded models, which stay in memory until ``unload_models`` drops them.

Every loader of weights is a ``cached_model``: one that is added cannot be forgotten when another
process needs the GPU. A test keeps plain ``lru_cache`` away from loaders.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model")

_clear: list[Callable[[], None]] = []


def cached_model(
    maxsize: int,
) -> Callable[[Callable[Arguments, Model]], Callable[Arguments, Model]]:
    """Decorates a loader: the last ``maxsize`` models that it loaded stay until they are unloaded.

    Args:
        maxsize: of the cache; the arguments are its keys.
    """

    def decorate(load: Callable[Arguments, Model]) -> Callable[Arguments, Model]:
        cached = lru_cache(maxsize)(load)
        _clear.append(cached.cache_clear)
        return cast("Callable[Arguments, Model]", cached)

    return decorate


def unload_models() -> None:
    """Drops every model that a ``cached_model`` loaded, and gives GPU memory back to the driver.

    A model that the caller still holds stays where it is. The next use loads anew.
    """
    for clear in _clear:
        clear()
    gc.collect()  # models hold themselves in cycles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

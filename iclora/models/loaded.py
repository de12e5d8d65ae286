"""Loaded models, kept in memory until ``unload_models`` drops them.

Every loader of weights is a ``cached_model``, so ``unload_models`` frees all of them when another
process needs the GPU. A test forbids plain ``lru_cache`` on loaders.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model")

_clear: list[Callable[[], None]] = []


def cached_model(
    maxsize: int,
) -> Callable[[Callable[Arguments, Model]], Callable[Arguments, Model]]:
    """Decorates a loader to keep the last ``maxsize`` models in memory until they are unloaded.

    Threads that ask for the same model wait for one load.

    Args:
        maxsize: size of the cache; the arguments are its keys.
    """

    def decorate(load: Callable[Arguments, Model]) -> Callable[Arguments, Model]:
        cached = lru_cache(maxsize)(load)
        lock = threading.RLock()
        _clear.append(cached.cache_clear)

        @wraps(load)
        def load_once(*args: Arguments.args, **options: Arguments.kwargs) -> Model:
            with lock:
                return cast("Callable[Arguments, Model]", cached)(*args, **options)

        return load_once

    return decorate


def unload_models() -> None:
    """Drops every model loaded by a ``cached_model`` and returns GPU memory to the driver.

    Models that the caller still references stay in memory. The next use loads them again.
    """
    for clear in _clear:
        clear()
    gc.collect()  # models hold themselves in cycles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def use_one_thread() -> None:
    """Limits a worker's tensor operations to one thread, which fixes the order of summation."""
    import torch

    torch.set_num_threads(1)

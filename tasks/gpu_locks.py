"""Locks on GPUs, so that heavy work takes turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iclora.locks import file_lock

LOCKS = "ICLORA_LOCKS"
"""Environment variable: folder of the GPUs' locks. Unset is one folder per user of this machine."""

_DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus() -> list[str]:
    """Lists the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    return [str(number) for number, _ in enumerate(_DRIVER.glob("*"))]


def gpu_hours(seconds: float) -> str:
    """Formats the GPU hours of a run: its time on every GPU that it may use."""
    return f"{seconds / 3600 * len(gpus()):.2f} GPU hours"


@contextmanager
def acquire_devices(work: str, holder: str) -> Generator[list[int]]:
    """Waits for every GPU that is visible here, and holds them while the block runs.

    A child that inherits the locks holds them until it ends, even if the worker is killed before.
    Without a GPU there is nothing to wait for: runs share a CPU.

    Args:
        work: work that waits, for the log.
        holder: holder of the GPUs, for the log of those who wait.

    Yields:
        The locks' descriptors, for the child to inherit.
    """
    shared = Path(tempfile.gettempdir()) / f"iclora-devices-{os.getuid()}"
    folder = Path(os.environ.get(LOCKS) or shared)
    with ExitStack() as stack:
        yield [
            stack.enter_context(file_lock(folder / f"gpu-{name}.lock", work, holder))
            for name in sorted(gpus())
        ]

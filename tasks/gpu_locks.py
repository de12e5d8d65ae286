"""Which devices heavy children may use, and taking turns on them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iclora.locks import file_lock

_DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus() -> list[str]:
    """The GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` gives them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    return [str(number) for number, _ in enumerate(_DRIVER.glob("*"))]


def gpu_hours(seconds: float) -> str:
    """The GPU hours of a run that has taken so long: its time on every GPU that it may use."""
    return f"{seconds / 3600 * len(gpus()):.2f} GPU hours"


@contextmanager
def acquire_gpus(what: str, holder: str) -> Generator[list[int]]:
    """Waits for every device that is visible here, and holds them while the block runs.

    One lock a device, on a file of this machine: given to a child it is held until the child ends,
    even if the worker is killed or the server restarted in between. Without a GPU the processor is
    the device.

    Args:
        what: what waits, for the log.
        holder: who holds the devices, for the log of those who wait.

    Yields:
        The locks' descriptors, for the child to inherit.
    """
    folder = Path(tempfile.gettempdir()) / f"iclora-devices-{os.getuid()}"
    with ExitStack() as stack:
        yield [
            stack.enter_context(file_lock(folder / f"{device}.lock", what, holder))
            for device in sorted(f"gpu-{name}" for name in gpus()) or ["cpu"]
        ]

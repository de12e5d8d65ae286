"""How fast a run is, against what the device could do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 FLOP a second from the vendor's data sheets, by a part of the device's name."""

_UNKNOWN = -1.0


def peak_flops(device: torch.device) -> float:
    """The device's peak; -1 if it is not known."""
    if device.type != "cuda":
        return _UNKNOWN
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), _UNKNOWN)


def peak_memory(device: torch.device) -> float:
    """GiB that were in use at the worst moment; -1 on a CPU."""
    if device.type != "cuda":
        return _UNKNOWN
    return torch.cuda.max_memory_allocated(device) / 2**30


def count_flops(work: Callable[[], Any]) -> tuple[int, Any]:
    """Runs once and counts the floating-point operations of matrix products and attention.

    Returns:
        The count, recomputation included, and what the work returned.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops(), result

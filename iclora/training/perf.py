"""Throughput and memory measurements relative to the device's peak."""

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
"""Dense bf16 FLOP/s from vendor data sheets, keyed by a substring of the device name."""

_UNKNOWN = -1.0


def peak_flops(device: torch.device) -> float:
    """Returns the device's peak dense bf16 FLOP/s; -1 if unknown."""
    if device.type != "cuda":
        return _UNKNOWN
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), _UNKNOWN)


def peak_memory(device: torch.device) -> float:
    """Returns the peak allocated device memory in GiB; -1 on a CPU."""
    if device.type != "cuda":
        return _UNKNOWN
    return torch.cuda.max_memory_allocated(device) / 2**30


def count_flops(work: Callable[[], Any]) -> tuple[int, Any]:
    """Runs ``work`` once and counts the FLOPs of its matrix products and attention.

    Returns:
        FLOPs including recomputation, and the result of ``work``.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops(), result

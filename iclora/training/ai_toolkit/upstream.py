"""AI-Toolkit's keys, as tables in ``upstream_keys.json``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def upstream_table() -> dict[str, Any]:
    """Returns ``keys``, all that AI-Toolkit accepts, and ``rules``, what becomes of them here."""
    file = Path(__file__).with_name("upstream_keys.json")
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return table

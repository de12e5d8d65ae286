"""Log of a command that another program reads: one JSON object per line on stderr.

A record is ``{"level": "INFO", "logger": "iclora.store", "message": "..."}``, progress is
``{"progress": {"step": "draw base", "done": 3, "total": 8}}``.
"""

from __future__ import annotations

import json
import logging
import os
from typing import NamedTuple

LOG_FORMAT = "ICLORA_LOG_FORMAT"
"""Environment variable: ``json`` makes a command log JSON lines; unset is text for people."""


class StepProgress(NamedTuple):
    """Progress within one step of a command."""

    step: str
    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.step}: {self.done} of {self.total}"


def logs_json() -> bool:
    """Checks if this process must log JSON lines."""
    return os.environ.get(LOG_FORMAT) == "json"


def record_line(level: str, logger: str, message: str) -> str:
    """Formats a log record as a JSON line."""
    return json.dumps({"level": level, "logger": logger, "message": message})


def progress_line(progress: StepProgress) -> str:
    """Formats progress as a JSON line."""
    return json.dumps({"progress": progress._asdict()})


def parse_line(line: str) -> tuple[int, str, StepProgress | None]:
    """Parses a line of a command's stderr into its level, its message and its progress, if any.

    Lines that are not ours (a native library's, a traceback's) are messages of level INFO.
    """
    try:
        fields = json.loads(line)
        if "progress" in fields:
            step, done, total = (fields["progress"][name] for name in StepProgress._fields)
            progress = StepProgress(str(step), int(done), int(total))
            return logging.INFO, str(progress), progress
        return logging.getLevelNamesMapping()[fields["level"]], str(fields["message"]), None
    except (ValueError, TypeError, KeyError, RecursionError):
        return logging.INFO, line, None

"""The command line: ``iclora COMMAND``; one file a command.

Nothing heavy is imported before a command runs, so that ``iclora --help`` answers at once. A
user's mistake is one sentence and exit status 2; a failure is one sentence and 1; only our own
bugs show a traceback.
"""

from __future__ import annotations

import logging
import sys

from iclora.cli.app import run

__all__ = ["main"]


def main() -> None:
    """The entry point of the ``iclora`` script."""
    # Some libraries give the root logger a handler, which would say everything a second time.
    logging.getLogger("iclora").propagate = False
    sys.exit(run(sys.argv[1:]))

"""Registers the commands, runs one, and turns what goes wrong into a sentence and a status."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Sequence

import typer

from iclora.cli.build import build
from iclora.cli.console import tell
from iclora.cli.inspect import inspect
from iclora.cli.verify import verify
from iclora.errors import IcloraError

OK, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = (build, verify, inspect)
"""Every command; its name is the function's, with dashes."""

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def make_app() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
        name="iclora",
        help="From raw footage to a working In-Context LoRA.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_nothing)
    for command in COMMANDS:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
    return app


def _nothing() -> None:
    """From raw footage to a working In-Context LoRA."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status: 0 success, 2 a user's mistake, 1 a failure.
    """
    logging.basicConfig(level=os.environ.get("ICLORA_LOG", "WARNING").upper(), stream=sys.stderr)
    try:
        # What libraries print belongs to people; stdout is the result's.
        with contextlib.redirect_stdout(sys.stderr if "--json" in arguments else sys.stdout):
            status = make_app()(list(arguments), standalone_mode=False)
    except typer.TyperException as mistake:
        return _sorry(mistake.format_message(), MISTAKE, arguments)
    except IcloraError as error:
        return _sorry(str(error), error.exit_code, arguments)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return _sorry(f"{_DISK[error.errno]}: {error.filename or ''}", FAILED, arguments)
    except KeyboardInterrupt:
        tell("interrupted; the same command goes on from here")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # threads at work would hold the exit up; what is on disk is whole
    return status if isinstance(status, int) else OK


def _sorry(sentence: str, status: int, arguments: Sequence[str]) -> int:
    line = " ".join(sentence.split())
    tell(f"iclora: {line}")
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"error": line}, ensure_ascii=False) + "\n")
    return status

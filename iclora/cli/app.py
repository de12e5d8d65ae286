"""Registers the commands, runs one, and turns what goes wrong into a sentence and a status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import typer

from iclora.cli.build import build
from iclora.cli.console import answer, log_to_stderr, print_note, separate_results
from iclora.cli.demo import demo
from iclora.cli.doctor import doctor
from iclora.cli.evaluate import evaluate
from iclora.cli.explain import explain
from iclora.cli.export_ai_toolkit import export_ai_toolkit
from iclora.cli.gc import gc
from iclora.cli.inspect import inspect
from iclora.cli.lint_captions import lint_captions
from iclora.cli.promote import promote
from iclora.cli.push import push
from iclora.cli.review import review
from iclora.cli.sample import sample
from iclora.cli.shots import shots
from iclora.cli.train import train
from iclora.cli.verify import verify
from iclora.disk import full_disk_message, is_disk_full
from iclora.errors import IcloraError, SaidElsewhere
from iclora.redact import redact_text

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

COMMANDS = (
    demo,
    build,
    verify,
    review,
    train,
    sample,
    evaluate,
    promote,
    push,
    inspect,
    shots,
    lint_captions,
    explain,
    export_ai_toolkit,
    gc,
    doctor,
)
"""Every command; its name is the function's, with dashes."""

_USER_ERRNOS = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""Errors that a user fixes with another path or other rights."""


def make_app() -> typer.Typer:
    """Makes the application with every command."""
    app = typer.Typer(
        name="iclora",
        help="From raw footage to a working In-Context LoRA.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for command in COMMANDS:
        app.command(command.__name__.replace("_", "-"))(command)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status: 0 success, 2 a user's mistake, 1 a failure, 130 interrupted.
    """
    log_to_stderr()
    try:
        with separate_results() if "--json" in arguments else nullcontext():
            status = make_app()(list(arguments), standalone_mode=False)
    except typer.TyperException as mistake:
        return _report_error(mistake.format_message(), USER_ERROR, arguments)
    except SaidElsewhere as error:
        return error.exit_code
    except IcloraError as error:
        return _report_error(str(error), error.exit_code, arguments)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if is_disk_full(error):
            sentence = full_disk_message(Path(str(error.filename or ".")))
        return _report_error(
            sentence, USER_ERROR if error.errno in _USER_ERRNOS else FAILED, arguments
        )
    except KeyboardInterrupt:
        print_note("interrupted; the same command goes on from here")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # threads at work would hold the exit up; what is on disk is whole
    return status if isinstance(status, int) else OK


def _report_error(sentence: str, status: int, arguments: Sequence[str]) -> int:
    line = redact_text(" ".join(sentence.split()))
    print_note(f"iclora: {line}")
    if "--json" in arguments:
        answer({"error": line, "status": status}, "", as_json=True)
    return status

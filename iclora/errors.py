"""Errors of this package, by the person who can fix them."""

from __future__ import annotations

import struct
import zlib

from iclora.redact import redact_text

BROKEN_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,  # of libavif
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)
"""Errors of Pillow's readers for a damaged file; there is no common base class."""


class IcloraError(Exception):
    """Base of all errors of this package; the message is one sentence for a person.

    Messages are printed, logged and stored in verdicts and manifests, and may quote URLs and
    texts of others: secrets are hidden here, for all of them.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(redact_text(sentence))


class UserError(IcloraError):
    """Error that the user can fix; the message says what is wrong, where, and what to do."""

    exit_code = 2


class BadInput(UserError):
    """Error for a file or folder that cannot be used."""


class BadConfig(UserError):
    """Error for a setting that is unknown, out of range or contradicts another."""


class MissingModel(UserError):
    """Error for weights that are not on this machine; the message says how to get them."""


class BuildStopped(IcloraError):
    """Error of a build: too large a share of a stage failed, or a ledger does not add up."""


class SaidElsewhere(IcloraError):
    """Error of a training process whose reason another process of the training reports."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class DiskFull(IcloraError):
    """Error for a full disk; the message names it and says what to do."""

"""What can go wrong, by who can mend it."""

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
"""What Pillow's readers raise when a file is damaged; they have no error of their own."""


class IcloraError(Exception):
    """Anything this package raises on purpose; its text is one sentence for a person.

    Sentences are printed, logged and kept in verdicts and manifests, and URLs and texts of others
    are in them: secrets are hidden here, once for all of them.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(redact_text(sentence))


class UserError(IcloraError):
    """The user can mend it; the text says what is wrong, where, and what to do."""

    exit_code = 2


class BadInput(UserError):
    """A file or folder that cannot be used."""


class BadConfig(UserError):
    """A setting that is unknown, out of range or contradicts another."""


class MissingModel(UserError):
    """Weights that are not on this machine; the text says which and how to get them."""


class BuildStopped(IcloraError):
    """Too large a share of a stage failed, or a ledger does not add up."""


class SaidElsewhere(IcloraError):
    """Another process of the same training says why it ends; this one ends with it."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class DiskFull(IcloraError):
    """There is no room to write; the text says where, and what to do."""

"""The sidecar of a source, ``<source>.toml``: whose it is and whether it may be used."""

from __future__ import annotations

import tomllib
from typing import Any

from iclora.ingest.result import UnreadableInput
from schemas.ingest import IngestParams
from schemas.source import OPT_OUTS, Licence

_KEYS = ("licence", "url", "title", "opt_out")


def parse_sidecar(text: bytes, where: str) -> Licence:
    """Reads a sidecar's bytes.

    Raises:
        Unreadable: it is not TOML, or a key or value is not one of those known; a sidecar that
            cannot be understood might reserve the source, so the source is not used.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    except ValueError as error:
        raise UnreadableInput("bad_sidecar", f"{where} is not TOML: {error}") from error
    unknown = sorted(set(tree) - set(_KEYS))
    if unknown:
        raise UnreadableInput(
            "bad_sidecar", f"{where} has the unknown key {unknown[0]}; known are {', '.join(_KEYS)}"
        )
    opt_out = tree.pop("opt_out", [])
    opt_out = [opt_out] if isinstance(opt_out, str) else opt_out
    texts = [*tree.values(), *opt_out] if isinstance(opt_out, list) else [opt_out]
    if not all(isinstance(value, str) for value in texts):
        raise UnreadableInput("bad_sidecar", f"{where}: licence, url, title and opt_out are texts")
    reserved = tuple(str(value).strip().lower() for value in opt_out)
    strange = [value for value in reserved if value not in OPT_OUTS]
    if strange:
        raise UnreadableInput(
            "bad_sidecar",
            f"{where}: opt_out {strange[0]!r} is unknown; known are {', '.join(OPT_OUTS)}",
        )
    return Licence(**tree, opt_out=reserved)


def is_reserved(rights: Licence, params: IngestParams) -> bool:
    """Whether the rights holder keeps this source from training and nobody overrode it."""
    return bool(rights.opt_out) and not params.allow_opt_out

"""Sidecar files (``<source>.toml``), which declare the rights and opt-outs of a source."""

from __future__ import annotations

import tomllib
from typing import Any

from iclora.ingest.result import UnreadableInput
from schemas.source import OPT_OUTS, Licence

_KEYS = ("licence", "url", "title", "opt_out")


def parse_sidecar(text: bytes, where: str) -> Licence:
    """Parses the bytes of a sidecar.

    Raises:
        UnreadableInput: The sidecar is not valid TOML or has an unknown key or value. The source
            is then not used, because the sidecar may reserve it.
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

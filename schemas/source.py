"""Sources: what a build is given, and what is known about it."""

from __future__ import annotations

from schemas.base import Key, Schema

OPT_OUTS = ("noai", "noimageai", "tdm-reserved")
"""Sidecar values of ``opt_out`` that refuse a source."""


class Licence(Schema):
    """Rights stated in a source's sidecar ``<source>.toml``."""

    licence: str = "unknown"
    url: str = ""
    title: str = ""
    opt_out: tuple[str, ...] = ()


class Source(Schema):
    """One source, resolved and digested; enough to ingest it again elsewhere."""

    url: str
    """Location: a local path, an fsspec URL or a hub id. Never written into a dataset."""

    name: str
    """The name relative to what was given, plus ``@`` and the content digest."""

    kind: Key
    """Module in ``iclora/ingest/readers`` that reads the source, such as ``film``."""

    content: str
    """Digest of the content (the bytes of the files, not their dates)."""

    rights: Licence = Licence()

"""Sources: what a build is given, and what is known about it."""

from __future__ import annotations

from typing import Literal

from schemas.base import Schema

SourceKind = Literal["film", "pictures", "archive", "huggingface", "webdataset", "captioned"]
"""``captioned``: already-stitched canvases with ``.txt`` beside them (an AI-Toolkit folder)."""

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

    kind: SourceKind
    content: str
    """Digest of the content (the bytes of the files, not their dates)."""

    rights: Licence = Licence()

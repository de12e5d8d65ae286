"""What a flow works on: its parameters, resolved once at the start."""

from __future__ import annotations

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.source import Source
from schemas.verdict import Verdict


class BuildJob(Schema):
    """A build, ready to run."""

    store: str
    name: Key
    config: Config
    sources: tuple[Source, ...]
    refused: tuple[Verdict, ...]
    """The verdicts of sources that do not take part, and why."""


class TrainJob(Schema):
    """A training, ready to run."""

    store: str
    name: Key
    config: Config
    dataset: str


class EvaluateJob(Schema):
    """An evaluation, ready to run."""

    store: str
    adapter: str
    against: str = ""
    """Adapter or ``base``; empty is the champion, or the base when there is none."""

    dataset: str = ""
    """Empty is the one the adapter was trained on."""

    promote: bool = False

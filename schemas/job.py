"""Jobs: what a run works on, resolved once at its start."""

from __future__ import annotations

from pydantic import NonNegativeInt

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.dataset import DatasetRef, ReviewLine
from schemas.filtering import SimilarityParams
from schemas.source import Source
from schemas.stage import StageRef
from schemas.verdict import Verdict


class BuildSetup(Schema):
    """Facts that every step of a build needs, wherever it runs."""

    store: str
    """URL."""

    name: Key
    config: Config
    source_count: NonNegativeInt
    run: str = ""
    """Identifies the run, for progress that crosses processes."""


class BuildJob(Schema):
    """A build, ready to run."""

    store: str
    """URL."""

    name: Key
    config: Config
    sources: tuple[Source, ...]
    refused: tuple[Verdict, ...]
    """Verdicts on locations and sources; those that say kept belong to ``sources``."""

    review: tuple[ReviewLine, ...] = ()
    """A person's choices about samples."""

    latest: str = ""
    """The dataset's version before this build; empty if there is none."""

    @property
    def setup(self) -> BuildSetup:
        """The facts that every step needs."""
        return BuildSetup(
            store=self.store,
            name=self.name,
            config=self.config,
            source_count=len(self.sources),
            run=self.fingerprint,
        )


class BuildResult(Schema):
    """A finished build."""

    dataset: DatasetRef
    scored: tuple[StageRef, ...]
    thresholds: SimilarityParams
    """Similarity thresholds in absolute numbers."""


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

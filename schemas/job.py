"""What a flow works on: its parameters, resolved once at the start."""

from __future__ import annotations

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.dataset import ReviewLine
from schemas.source import Source
from schemas.verdict import Verdict


class BuildSetup(Schema):
    """What every task of a build is given; small, because there are many."""

    store: str
    name: Key
    config: Config
    source: str = ""
    """The name of the source that the task works on, for people; empty if it works on all."""


class BuildJob(Schema):
    """A build, ready to run."""

    setup: BuildSetup
    sources: tuple[Source, ...]
    refused: tuple[Verdict, ...]
    """The verdicts of sources that do not take part, and why."""

    review: tuple[ReviewLine, ...] = ()
    """A person's choices about samples."""

    latest: str = ""
    """The dataset's version before this build; empty if there is none."""

    def setups(self) -> list[BuildSetup]:
        """One a source, which it names as people do: without the digest."""
        names = [source.name.rpartition("@")[0] for source in self.sources]
        return [self.setup.model_copy(update={"source": name}) for name in names]


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

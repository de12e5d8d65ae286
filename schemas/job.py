"""What a flow works on: its parameters, resolved once at the start."""

from __future__ import annotations

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.dataset import ReviewLine
from schemas.source import Source
from schemas.verdict import Verdict


class Parcel(Schema):
    """Consecutive sources of a build, worked on in one task run a stage."""

    sources: tuple[Source, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The sources' names as people know them: without the digest."""
        return tuple(source.name.rpartition("@")[0] for source in self.sources)


class BuildSetup(Schema):
    """What every task of a build is given; small, because there are many."""

    store: str
    name: Key
    config: Config
    parcel: tuple[str, ...] = ()
    """The names of the sources that the task works on, for people; empty if it works on all."""

    @property
    def title(self) -> str:
        """The parcel in a few words, for the name of a task run."""
        first, more = self.parcel[0], len(self.parcel) - 1
        return f"{first} and {more} more" if more else first


class BuildJob(Schema):
    """A build, ready to run."""

    setup: BuildSetup
    parcels: tuple[Parcel, ...]
    refused: tuple[Verdict, ...]
    """The verdicts of sources that do not take part, and why."""

    review: tuple[ReviewLine, ...] = ()
    """A person's choices about samples."""

    latest: str = ""
    """The dataset's version before this build; empty if there is none."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """All of them, in order."""
        return tuple(source for parcel in self.parcels for source in parcel.sources)

    def setups(self) -> list[BuildSetup]:
        """One a parcel."""
        return [self.setup.model_copy(update={"parcel": one.names}) for one in self.parcels]


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

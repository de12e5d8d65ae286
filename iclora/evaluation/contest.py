"""Who is measured against whom, and on what: settled before anything is loaded."""

from __future__ import annotations

from typing import NamedTuple

from iclora.errors import BadInput
from iclora.evaluation.controls import ADAPTER, BASE, RIVAL
from iclora.evaluation.promote import champion_of
from iclora.sampling.adapters import StoredAdapter, find_stored, locate_adapter
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import BaseParams, Config
from schemas.sampling import AdapterUse


class Side(NamedTuple):
    """A model that draws the prompt suite."""

    arm: str
    """``adapter``, ``base`` or ``rival``."""

    label: str
    uses: tuple[AdapterUse, ...]
    base: BaseParams | None = None
    """The base it was trained on, where that is not the contest's."""


class Contest(NamedTuple):
    """An adapter, what it must beat, and what both are measured with."""

    name: str
    """Of the adapter, as a key."""

    stored: StoredAdapter | None
    """Where the store has it; None for a file from elsewhere."""

    run: RunRecord | None
    adapter: Side
    base: Side
    rival: Side
    """What it must beat: the champion, another adapter, or the base itself."""

    config: Config
    dataset: str
    """Whose val sets are compared with."""

    trained_on: str
    """Whose train split may be known by heart."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """Everyone who draws, each once."""
        others = () if self.rival.arm == BASE else (self.rival,)
        return (self.adapter, self.base, *others)


def arrange(
    store: Store, adapter: str, config: Config | None, *, against: str, dataset: str
) -> Contest:
    """Settles an evaluation.

    Args:
        store: where names are looked up.
        adapter: what is evaluated, by any name an adapter has.
        config: ``sample`` and ``evaluate`` are taken from it; base, layout and caption format too
            for an adapter without a run record. None takes everything from the record.
        against: an adapter or ``base``; empty is the champion, or the base when there is none.
        dataset: empty is the one the adapter was trained on.

    Raises:
        BadInput: an adapter is not there, or nothing says what base or dataset belongs to it.
    """
    use = locate_adapter(store, adapter)
    stored = find_stored(store, use.name) if "@" in use.name else None
    run = _run_record(store, stored)
    settled = _settle(config, run, adapter)
    dataset = dataset or (run.dataset if run else "")
    if not dataset:
        raise BadInput(f"{adapter} does not say what it was trained on: name a --dataset")
    base = Side(BASE, "the base", ())
    return Contest(
        name=stored.name if stored else _as_key(use.name),
        stored=stored,
        run=run,
        adapter=Side(ADAPTER, use.name, (use,)),
        base=base,
        rival=_rival(store, use, stored, against) or base,
        config=settled,
        dataset=dataset,
        trained_on=run.dataset if run else dataset,
    )


def _run_record(store: Store, stored: StoredAdapter | None) -> RunRecord | None:
    return RunRecord.from_text(store.read(f"{stored.folder}/run.json")) if stored else None


def _settle(config: Config | None, run: RunRecord | None, adapter: str) -> Config:
    if config is None:
        if run is None:
            raise BadInput(f"{adapter} has no run record: name the --preset it was trained with")
        return run.config
    if run is None:
        return config
    own = {"base": run.config.base, "layout": run.config.layout, "caption": run.config.caption}
    return config.model_copy(update=own)


def _rival(
    store: Store, use: AdapterUse, stored: StoredAdapter | None, against: str
) -> Side | None:
    """The other adapter; None for the base. Nobody is measured against themselves."""
    if against == BASE:
        return None
    if not against:
        champion = champion_of(store, stored.name) if stored else ""
        if not stored or champion in ("", stored.version):
            return None
        against = f"{stored.name}@{champion}"
    other = locate_adapter(store, against)
    if other.content == use.content and other.weight == use.weight:
        raise BadInput(f"{use.name} and {other.name} are the same adapter: nothing to compare")
    theirs = _run_record(store, find_stored(store, other.name) if "@" in other.name else None)
    return Side(RIVAL, other.name, (other,), theirs.config.base if theirs else None)


def _as_key(name: str) -> str:
    kept = "".join(char if char.isalnum() and char.isascii() else "-" for char in name.lower())
    return kept.strip("-")[:80] or "adapter"


def refuse_hopeless_promotion(store: Store, contest: Contest) -> None:
    """Promotion needs an adapter of the store, measured against the champion in force.

    Raises:
        BadInput: it is a file from elsewhere, or was measured against somebody else.
    """
    if contest.stored is None:
        raise BadInput(
            f"{contest.adapter.label} is not in {store.url}: only an adapter of the store can "
            f"become champion"
        )
    champion = champion_of(store, contest.name)
    if champion in ("", contest.stored.version):
        return
    if contest.rival.label != f"{contest.name}@{champion}":
        raise BadInput(
            f"{contest.name}@{champion} is the champion, so --promote compares with it: leave out "
            f"--against {contest.rival.label if contest.rival.arm == RIVAL else BASE}"
        )

"""Who is measured against whom, and on what: settled before anything is loaded."""

from __future__ import annotations

from typing import NamedTuple

from iclora.errors import BadInput
from iclora.evaluation.controls import ADAPTER, BASE, BASELINE
from iclora.evaluation.promotion import champion_of
from iclora.sampling.adapters import StoredAdapter, find_stored, locate_adapter
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import BaseParams, Config
from schemas.sampling import AdapterUse


class Arm(NamedTuple):
    """A model that draws the prompt suite."""

    name: str
    """``adapter``, ``base`` or ``rival``."""

    label: str
    adapters: tuple[AdapterUse, ...]
    base: BaseParams | None = None
    """The base it was trained on, where that is not the contest's."""


class EvaluationPlan(NamedTuple):
    """An adapter, what it must beat, and what both are measured with."""

    name: str
    """Of the adapter, as a key."""

    stored: StoredAdapter | None
    """Where the store has it; None for a file from elsewhere."""

    run: RunRecord | None
    adapter: Arm
    base: Arm
    baseline: Arm
    """What it must beat: the champion, another adapter, or the base itself."""

    config: Config
    dataset: str
    """Whose val sets are compared with."""

    trained_on: str
    """Whose train split may be known by heart."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Everyone who draws, each once."""
        others = () if self.baseline.name == BASE else (self.baseline,)
        return (self.adapter, self.base, *others)


def make_evaluation_plan(
    store: Store, adapter: str, config: Config | None, *, against: str, dataset: str
) -> EvaluationPlan:
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
    settled = _resolve_config(config, run, adapter)
    dataset = dataset or (run.dataset if run else "")
    if not dataset:
        raise BadInput(f"{adapter} does not say what it was trained on: name a --dataset")
    base = Arm(BASE, "the base", ())
    return EvaluationPlan(
        name=stored.name if stored else _as_key(use.name),
        stored=stored,
        run=run,
        adapter=Arm(ADAPTER, use.name, (use,)),
        base=base,
        baseline=_find_baseline(store, use, stored, against) or base,
        config=settled,
        dataset=dataset,
        trained_on=run.dataset if run else dataset,
    )


def _run_record(store: Store, stored: StoredAdapter | None) -> RunRecord | None:
    return RunRecord.from_text(store.read(f"{stored.folder}/run.json")) if stored else None


def _resolve_config(config: Config | None, run: RunRecord | None, adapter: str) -> Config:
    if config is None:
        if run is None:
            raise BadInput(f"{adapter} has no run record: name the --preset it was trained with")
        return run.config
    if run is None:
        return config
    own = {"base": run.config.base, "layout": run.config.layout, "caption": run.config.caption}
    return config.model_copy(update=own)


def _find_baseline(
    store: Store, use: AdapterUse, stored: StoredAdapter | None, against: str
) -> Arm | None:
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
    return Arm(BASELINE, other.name, (other,), theirs.config.base if theirs else None)


def _as_key(name: str) -> str:
    kept = "".join(char if char.isalnum() and char.isascii() else "-" for char in name.lower())
    return kept.strip("-")[:80] or "adapter"


def validate_promotion(store: Store, plan: EvaluationPlan) -> None:
    """Promotion needs an adapter of the store, measured against the champion in force.

    Raises:
        BadInput: it is a file from elsewhere, or was measured against somebody else.
    """
    if plan.stored is None:
        raise BadInput(
            f"{plan.adapter.label} is not in {store.url}: only an adapter of the store can "
            f"become champion"
        )
    champion = champion_of(store, plan.name)
    if champion in ("", plan.stored.version):
        return
    if plan.baseline.label != f"{plan.name}@{champion}":
        raise BadInput(
            f"{plan.name}@{champion} is the champion, so --promote compares with it: leave out "
            f"--against {plan.baseline.label if plan.baseline.name == BASELINE else BASE}"
        )

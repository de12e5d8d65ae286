"""Evaluation plan: contestants, datasets, and settings, resolved before any model is loaded."""

from __future__ import annotations

import re
from typing import NamedTuple

from iclora.errors import BadConfig, BadInput
from iclora.evaluation.controls import ADAPTER, BASE, BASELINE
from iclora.evaluation.promotion import champion_of
from iclora.evaluation.rule import differing, rule_in, rule_of, with_rule
from iclora.sampling.adapters import StoredAdapter, find_stored, locate_adapter
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import BaseParams, Config
from schemas.evaluation import PromotionRule
from schemas.sampling import AdapterUse


class Arm(NamedTuple):
    """Model that renders the prompts."""

    name: str
    """Role of the model: ``adapter``, ``base`` or ``rival``."""

    label: str
    adapters: tuple[AdapterUse, ...]
    base: BaseParams | None = None
    """Base that the adapter was trained on, if it differs from the evaluation's."""


class EvaluationPlan(NamedTuple):
    """Adapter, its baseline, and the settings shared by both."""

    name: str
    """Name of the adapter, used as a key."""

    stored: StoredAdapter | None
    """Location in the store; None for an external file."""

    adapter: Arm
    base: Arm
    baseline: Arm
    """Model to beat: the champion, another adapter, or the base itself."""

    config: Config
    dataset: str
    """Dataset that provides the val sets for comparison."""

    trained_on: str
    """Dataset whose train split the adapter may have memorized."""

    rule: PromotionRule | None = None
    """Promotion rule for adapters of this name; None for an external file."""

    overrides: tuple[str, ...] = ()
    """Settings that differ from the rule."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Lists all models that render, each once."""
        others = () if self.baseline.name == BASE else (self.baseline,)
        return (self.adapter, self.base, *others)


def make_evaluation_plan(
    store: Store,
    adapter: str,
    config: Config | None,
    *,
    against: str,
    dataset: str,
    repin: bool = False,
) -> EvaluationPlan:
    """Resolves an evaluation's adapter, baseline, dataset, and settings.

    Args:
        store: store for name lookup.
        adapter: adapter to evaluate, by any name ``locate_adapter`` accepts.
        config: source of ``sample`` and ``evaluate``, and of base, layout and caption format for an
            adapter without a run record. None takes ``sample`` and ``evaluate`` from the rule of
            the adapter's name and everything else from the record.
        against: an adapter or ``base``; empty is the champion, or the base when there is none.
        dataset: empty is the dataset the adapter was trained on.
        repin: makes the settings the new rule, so nothing is an override; without a configuration,
            those of the adapter's run.

    Raises:
        BadInput: the adapter does not exist, its base or dataset is unknown, or it is not in the
            store and has no rule to change.
    """
    use = locate_adapter(store, adapter)
    stored, run = _stored_run(store, use)
    if repin and run is None:
        raise BadInput(f"{adapter} is not in {store.url}: only adapters of the store have a rule")
    if run is not None:
        own = {"base": run.config.base, "layout": run.config.layout, "caption": run.config.caption}
        resolved = (config or run.config).model_copy(update=own)
    elif config is not None:
        resolved = config
    else:
        raise BadInput(f"{adapter} has no run record: name the --preset it was trained with")
    rule = None
    if repin:
        rule = rule_in(resolved)
    elif stored and run:
        rule = rule_of(store, stored.name, champion_of(store, stored.name), run)
    if rule and config is None:
        resolved = with_rule(resolved, rule)
    dataset = dataset or (run.dataset if run else "")
    if not dataset:
        raise BadInput(f"{adapter} does not say what it was trained on: name a --dataset")
    base = Arm(BASE, "the base", ())
    baseline = _find_baseline(store, use, stored, against) or base
    key = re.sub("[^a-z0-9]", "-", use.name.lower()).strip("-")[:80] or "adapter"
    return EvaluationPlan(
        name=stored.name if stored else key,
        stored=stored,
        adapter=Arm(ADAPTER, use.name, (use,)),
        base=base,
        baseline=baseline,
        config=resolved,
        dataset=dataset,
        trained_on=run.dataset if run else dataset,
        rule=rule,
        overrides=(
            *(differing(rule, rule_in(resolved)) if rule else ()),
            *(
                f"{applied.name} at {applied.weight:g}"
                for applied in (use, *baseline.adapters)
                if applied.weight != 1.0
            ),
        ),
    )


def _stored_run(store: Store, use: AdapterUse) -> tuple[StoredAdapter | None, RunRecord | None]:
    """Returns an adapter's location in the store and its run record; None for an external file."""
    stored = find_stored(store, use.name) if "@" in use.name else None
    if stored is None:
        return None, None
    return stored, RunRecord.from_text(store.read(f"{stored.folder}/run.json"))


def _find_baseline(
    store: Store, use: AdapterUse, stored: StoredAdapter | None, against: str
) -> Arm | None:
    """Finds the other adapter; None for the base. An adapter is never compared with itself."""
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
    _, run = _stored_run(store, other)
    return Arm(BASELINE, other.name, (other,), run.config.base if run else None)


def validate_promotion(store: Store, plan: EvaluationPlan) -> None:
    """Rejects evaluations that cannot promote the adapter, before rendering starts.

    Raises:
        BadInput: the adapter is an external file, or the baseline is not the current champion.
        BadConfig: the settings differ from the rule.
    """
    if plan.stored is None:
        raise BadInput(
            f"{plan.adapter.label} is not in {store.url}: only an adapter of the store can "
            f"become champion"
        )
    if plan.overrides:
        raise BadConfig(
            f"--promote decides by the rule of {plan.name}, which has other settings: "
            f"{', '.join(plan.overrides)}; leave out what changes them, or make yours the rule "
            f"with --repin"
        )
    champion = champion_of(store, plan.name)
    if champion == plan.stored.version:
        return
    against = plan.baseline.label if plan.baseline.name == BASELINE else BASE
    if champion and against != f"{plan.name}@{champion}":
        raise BadInput(
            f"{plan.name}@{champion} is the champion, so --promote compares with it: leave out "
            f"--against {against}"
        )
    if not champion and against != BASE:
        raise BadInput(
            f"{plan.name} has no champion, so --promote compares with the base: leave out "
            f"--against {against}"
        )

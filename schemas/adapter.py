"""An adapter: a trained LoRA and the record of its run."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.store_paths import adapter_path

ADAPTER_SCHEMA = 1
"""Version of the adapter folder's format; incremented when an old reader would misread it."""


class RunIdentity(Schema):
    """Identity of a run: known before step 1, written into every checkpoint."""

    name: Key
    version: str
    """Digest of the dataset, the base, and the sections ``base``, ``data`` and ``train`` of the
    configuration, without operational fields."""

    dataset: str
    """``name@version``."""

    base: str
    """Base model and revision."""

    config: Config


class TrainingProgress(Schema):
    """State stored in a checkpoint beside its tensors; never a time or a path."""

    step: NonNegativeInt
    """Steps done."""

    skipped: NonNegativeInt = 0
    """Steps whose loss or gradient was not finite."""

    bad_in_a_row: NonNegativeInt = 0
    rollbacks: NonNegativeInt = 0


class CheckpointState(Schema):
    """``state.json`` of a checkpoint."""

    identity: RunIdentity
    progress: TrainingProgress
    optimizer: dict[str, float] = {}
    """State of the optimizer that is numbers, not tensors."""


class RunRecord(Schema):
    """``run.json``."""

    schema_version: int = ADAPTER_SCHEMA
    name: Key
    version: str
    """Digest of the config, the dataset, the base's revision and the seed: known before step 1."""

    dataset: str
    base: str
    """Base model and revision."""

    preview: bool = False
    """The dataset's captions or CLIP were the miniature's, outside its film world."""

    config: Config
    steps: NonNegativeInt
    loss: float
    """Mean over the last tenth of the steps."""

    validation: dict[str, float] = {}
    """Last validation losses: ``all``, ``t=0.5``, ``panel-1``; empty without a val split."""

    skipped: NonNegativeInt = 0
    """Steps whose loss or gradient was not finite."""

    rollbacks: NonNegativeInt = 0
    resumed_from: NonNegativeInt = 0
    processes: PositiveInt = 1
    seconds: float
    """Duration of the last uninterrupted stretch, from its first step to its last."""

    tokens_per_second: float = 0.0
    utilisation: float = -1.0
    """Hardware FLOP utilisation, 0-1; -1 where the device's peak is unknown."""

    peak_memory: float = -1.0
    """GiB on the device; -1 on a CPU."""

    waiting: float = 0.0
    """Share of the time spent waiting for data, 0-1."""

    plan: str = ""
    """Memory plan of a step: weights, recomputed blocks, micro-batches."""

    counts: dict[str, int] = {}
    """Samples, parameters, captions dropped, panels given, … over the last stretch."""

    versions: dict[str, str] = {}
    """Library to version."""


class AdapterManifest(Schema):
    """``manifest.json``, written last: its presence marks the adapter as complete."""

    schema_version: int = ADAPTER_SCHEMA
    name: Key
    version: str
    digests: dict[str, str]
    """File name to sha256, for the files of the adapter's folder."""


class AdapterRef(Schema):
    """Reference to the folder of a trained adapter."""

    name: Key
    version: str
    url: str
    steps: NonNegativeInt
    loss: float
    resumed_from: NonNegativeInt = 0

    @property
    def path(self) -> str:
        """Folder relative to the store's root."""
        return adapter_path(self.name, version=self.version)

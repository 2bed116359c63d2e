"""The prediction cache: an Arrow file for each base learner and split, with all predictions.

`FOLDER/<split>/<learner>-<key>.arrow` has the columns sample_id, label and probabilities (a
fixed-size list of C float32). The key is the digest of everything that determines the content, so a
learner has to be trained if its files are missing. `FOLDER/unfinished` has the state of a learner
whose training was interrupted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from distcel.data.sample_table import read_samples, write_samples
from distcel.data.splits import Probabilities, Split, Splits
from distcel.data.subsets import Fold
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.types import SPLIT_NAMES, SplitName
from distcel.storage.files import (
    DamagedFileError,
    is_intact,
    put_aside,
    read_sealed,
    remove_checked,
    safetensors_bytes,
    verify,
    write_checked,
    write_sealed,
)
from distcel.storage.provenance import describe_worker, source_digest
from distcel.train.checkpoint import Weights


@dataclass(frozen=True)
class TrainedLearner:
    """The results of a base learner's training.

    Attributes:
        probs_by_split: its softmax outputs for the samples of each split, (S, C).
        weights: the weights of its network.
        seconds: duration of its epochs.
        worker: the worker that it was trained on, as `describe_worker` describes it there.
    """

    probs_by_split: Mapping[SplitName, Probabilities]
    weights: Weights
    seconds: float
    worker: Mapping[str, str] = field(default_factory=describe_worker)


@dataclass(frozen=True)
class PredictionCache:
    """Predictions and weights of base learners, by the key of everything that determines them.

    Attributes:
        folder: the folder of all files.
        split_names: the splits whose predictions are kept.
    """

    folder: Path
    split_names: tuple[SplitName, ...] = SPLIT_NAMES

    def path(self, spec: LearnerSpec, key: str, split: SplitName) -> Path:
        """The file of the learner's predictions for one split."""
        return self.folder / split / f"{_file_name(spec)}-{key}.arrow"

    def weights_path(self, spec: LearnerSpec, key: str) -> Path:
        """The safetensors file of the learner's weights."""
        return self.folder / "weights" / f"{_file_name(spec)}-{key}.safetensors"

    def holds(self, spec: LearnerSpec, key: str) -> bool:
        """Whether the cache has the learner's weights and all its predictions.

        Damaged files are put aside and count as missing.
        """
        intact = [is_intact(path) for path in self._paths(spec, key)]
        return all(intact)

    def _paths(self, spec: LearnerSpec, key: str) -> list[Path]:
        predictions = [self.path(spec, key, split) for split in self.split_names]
        return [*predictions, self.weights_path(spec, key)]

    def keep_state(self, spec: LearnerSpec, key: str, state: bytes) -> None:
        """Keep the state of the learner's training, in place of an earlier state."""
        write_sealed(self._state_path(spec, key), state)

    def state(self, spec: LearnerSpec, key: str) -> bytes | None:
        """The kept state; None if there is none, or if it was damaged and put aside."""
        return read_sealed(self._state_path(spec, key))

    def _state_path(self, spec: LearnerSpec, key: str) -> Path:
        return self.folder / "unfinished" / f"{_file_name(spec)}-{key}.state"

    def write(self, spec: LearnerSpec, key: str, splits: Splits, trained: TrainedLearner) -> None:
        """Write one learner's weights and predictions, and delete its training's state."""
        for path in self._paths(spec, key):  # those of an earlier training
            remove_checked(path)
        content = safetensors_bytes(trained.weights)
        write_checked(self.weights_path(spec, key), lambda file: file.write(content))
        for name in self.split_names:
            split = splits[name]
            facts = {"learner": spec.name, "split": name, "key": key}
            facts |= {"seconds": str(trained.seconds), "source_digest": source_digest()}
            facts["worker"] = json.dumps(dict(trained.worker))
            write_samples(
                self.path(spec, key, name),
                "probabilities",
                split.sample_ids,
                split.labels_S,
                trained.probs_by_split[name],
                facts,
            )
        self._state_path(spec, key).unlink(missing_ok=True)

    def trainings(
        self, specs: Sequence[LearnerSpec], keys: Sequence[str]
    ) -> list[tuple[float, dict[str, str]]]:
        """The duration of each learner's epochs in seconds, and the worker that it was trained on.

        The worker is empty for a learner that an earlier version trained.

        Raises:
            DamagedFileError: a file's bytes have changed.
        """
        paths = (
            self.path(spec, key, self.split_names[0]) for spec, key in zip(specs, keys, strict=True)
        )
        found = (read_samples(path, "probabilities").metadata for path in paths)
        return [(float(facts["seconds"]), json.loads(facts.get("worker", "{}"))) for facts in found]

    def weights(self, spec: LearnerSpec, key: str) -> Weights:
        """The learner's weights.

        Raises:
            DamagedFileError: the file's bytes have changed.
        """
        path = self.weights_path(spec, key)
        verify(path)
        try:
            return load_tensors(path.read_bytes())
        except SafetensorError as error:
            raise DamagedFileError(path, str(error)) from None

    def load(
        self, specs: Sequence[LearnerSpec], keys: Sequence[str], split: Split, name: SplitName
    ) -> Split:
        """One split with the predictions of all learners, in the order of `specs`.

        Raises:
            DamagedFileError: a file's bytes have changed, or its samples are others.
        """
        probs_SNC: Probabilities | None = None
        for i, (spec, key) in enumerate(zip(specs, keys, strict=True)):
            path = self.path(spec, key, name)
            try:
                table = read_samples(path, "probabilities")
                if not table.sample_ids.equals(split.sample_ids):
                    raise DamagedFileError(path, f"its samples are not those of the {name} split")
            except DamagedFileError as error:
                put_aside(error)
                raise
            if probs_SNC is None:
                shape = (len(split.labels_S), len(specs), table.values.shape[1])
                probs_SNC = np.empty(shape, np.float32)
            probs_SNC[:, i] = table.values
        assert probs_SNC is not None, "there is at least one learner"
        return replace(split, probs_SNC=probs_SNC)


def cross_fitted(
    cache: PredictionCache, specs: Sequence[LearnerSpec], folds: Sequence[Fold], train: Split
) -> Split:
    """The train split, each sample predicted by the copies that were trained without it.

    Raises:
        DamagedFileError: a file's bytes have changed, or its samples are others.
    """
    probs_SNC = np.empty(0, np.float32)
    for fold in folds:
        held_out = train.where(fold.held_out_S)
        part = cache.load(specs, fold.keys, held_out, "holdout").probs_SNC
        if not probs_SNC.size:
            probs_SNC = np.empty((len(train.labels_S), *part.shape[1:]), np.float32)
        probs_SNC[fold.held_out_S] = part
    return replace(train, probs_SNC=probs_SNC)


def _file_name(spec: LearnerSpec) -> str:
    name = re.sub(r"[^\w+.-]", "_", spec.name)
    return name.encode()[:150].decode(errors="ignore")  # file names hold 255 bytes

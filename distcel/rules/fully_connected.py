"""The Super Learner as a fully connected network, which weighs the learners by their outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distcel.core.ensemble import class_probabilities
from distcel.data.splits import Split
from distcel.experiment.types import Recipe
from distcel.rules.rule import FittedRule
from distcel.rules.static import logarithms
from distcel.train.loop import Training, predict

PENALTIES = (1e-4, 1e-3, 1e-2)
_FOLDS = 5
_BATCH, _BATCHES = 64, 20  # of so many samples, or fewer, so that an epoch has so many batches
_PATIENCE = 5  # a training ends after so many epochs without a lower loss
Samples = tuple[Tensor, Tensor]  # rows (S, F) and labels (S,)


@dataclass(frozen=True)
class FullyConnected:
    """A network of one hidden layer on the logarithms of all N x C softmax outputs.

    The weight decay and the number of epochs are those with the least cross entropy on held-out
    samples; the network is then trained on all samples that it is fitted to.

    Attributes:
        seed: seeds the folds, the initial weights and the order of the samples.
        valid: the held-out samples; None holds out five folds of the fitted ones, each in turn, as
            a super learner does (Ju et al. 2018).
        hidden: number of hidden units.
        max_epochs: the largest number of epochs.
    """

    seed: int
    valid: Split | None = None
    hidden: int = 128
    max_epochs: int = 30

    def fit(self, fitted: Split) -> FittedRule:
        """Choose weight decay and epochs on the held-out samples, and train on all fitted ones."""
        rows_SF = torch.from_numpy(logarithms(fitted))
        mean_F, std_F = rows_SF.mean(0), rows_SF.std(0, correction=0).clamp_min(1e-3)
        n_classes = fitted.probs_SNC.shape[2]

        def samples(split: Split) -> Samples:
            rows = (torch.from_numpy(logarithms(split)) - mean_F) / std_F
            return rows, torch.tensor(split.labels_S)

        own = samples(fitted)
        pairs = [(own, samples(self.valid))] if self.valid else self._folds(own)
        losses = sum(self._losses(*pair, n_classes) for pair in pairs)
        best, n_epochs = np.unravel_index(np.argmin(losses), (len(PENALTIES), self.max_epochs))
        final = self._training(own, n_classes, PENALTIES[best])
        for _ in range(int(n_epochs) + 1):
            final.run_epoch()
        return lambda split: class_probabilities(predict(final.network, samples(split)[0]))

    def _folds(self, own: Samples) -> list[tuple[Samples, Samples]]:
        """The samples without each of the folds, and the fold."""
        n_samples = len(own[1])
        fold_S = np.random.default_rng(self.seed).permutation(n_samples) % min(_FOLDS, n_samples)
        masks = [torch.from_numpy(fold_S == fold) for fold in range(fold_S.max() + 1)]
        return [
            ((own[0][~held_S], own[1][~held_S]), (own[0][held_S], own[1][held_S]))
            for held_S in masks
        ]

    def _losses(self, train: Samples, held_out: Samples, n_classes: int) -> NDArray[np.float64]:
        """The summed cross entropy (nats) of the held-out samples, by penalty and epoch.

        It is infinite for epochs after the end of a training.
        """
        losses = np.full((len(PENALTIES), self.max_epochs), np.inf)
        for i, penalty in enumerate(PENALTIES):
            run = self._training(train, n_classes, penalty)
            for epoch in range(self.max_epochs):
                run.run_epoch()
                logits_SC = predict(run.network, held_out[0])
                losses[i, epoch] = float(cross_entropy(logits_SC, held_out[1], reduction="sum"))
                if epoch - losses[i].argmin() >= _PATIENCE:
                    break
        return losses

    def _training(self, samples: Samples, n_classes: int, penalty: float) -> Training:
        """A fresh training on the samples, by Adam with this weight decay."""
        rows_SF, labels_S = samples
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            first, last = (
                nn.Linear(rows_SF.shape[1], self.hidden),
                nn.Linear(self.hidden, n_classes),
            )
        network = nn.Sequential(first, nn.ReLU(), last)

        def batch_loss(batch_B: Tensor, _: torch.Generator) -> Tensor:
            return cross_entropy(network(rows_SF[batch_B]), labels_S[batch_B])

        batch_size = min(_BATCH, max(1, len(labels_S) // _BATCHES))
        recipe = Recipe("adam", 0.001, self.max_epochs, batch_size, weight_decay=penalty)
        return Training(network, batch_loss, torch.arange(len(labels_S)), recipe, self.seed)

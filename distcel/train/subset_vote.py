"""Fits the vote of any subset before a selection net relies on it."""

from __future__ import annotations

import torch
from torch import Tensor

from distcel.core.ensemble import answered
from distcel.core.priced_ensemble import (
    SubsetVote,
    answer_features,
    random_subsets,
    subset_loss,
)

_EPOCHS, _LR, _DECAY = 30, 0.02, 0.01


def fit_vote(
    vote: SubsetVote, probs_SNC: Tensor, labels_S: Tensor, n_always: int, seed: int
) -> None:
    """Fit the vote to random subsets of the learners, each sample's drawn anew in each epoch.

    Args:
        vote: the vote, fitted in place.
        probs_SNC: the learners' outputs, on the vote's device.
        labels_S: the labels.
        n_always: the number of learners, the first ones, that are in every subset.
        seed: seeds batches and subsets.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(vote.parameters(), lr=_LR, weight_decay=_DECAY)
    # At least twenty batches an epoch, so that few samples do not mean few steps.
    n_batches = -(-len(labels_S) // min(max(len(labels_S) // 20, 8), 128))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=_EPOCHS * n_batches)
    for _ in range(_EPOCHS):
        order_S = torch.randperm(len(labels_S), generator=generator).to(labels_S.device)
        for batch_B in order_S.tensor_split(n_batches):
            probs_BNC = probs_SNC[batch_B]
            mask_BN = random_subsets(answered(probs_BNC), n_always, generator)
            loss = subset_loss(vote, mask_BN, answer_features(probs_BNC), labels_S[batch_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

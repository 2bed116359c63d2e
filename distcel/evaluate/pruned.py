"""What pruning changes: the ensemble without the learners that no sample of valid selects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.data.splits import Split
from distcel.evaluate.selection import selected
from distcel.search.refit import ChosenEnsemble
from distcel.train.selection import TrainingTask


def measure_pruned(
    task: TrainingTask, best: ChosenEnsemble, test: Split, asked_SN: NDArray[np.bool_]
) -> dict[str, Any]:
    """Leave out the learners that the ensemble selects for no sample of valid, and measure on test.

    Where it would select one of them, it selects the learner with the next best score instead. Its
    predictions of valid are the same, and so are those of all samples that select kept ones alone.

    Args:
        task: the task that the selection net was trained on.
        best: the smart ensemble.
        test: the samples of test.
        asked_SN: which learners the whole ensemble selects for them, (S, N).

    Returns:
        dict: `kept`, the numbers of the learners that are kept; `n_learners`, N; `k`; `n_changed`,
        for how many samples of test a learner is selected that is not kept; `n_test`, of how many;
        `accuracy` on test.
    """
    kept_N = np.any(selected(best.rule, best.network, task, task.valid), axis=0)
    # A learner without an answer is not selected.
    without = replace(test, probs_SNC=test.probs_SNC * kept_N[:, None])
    predicted_S = best.rule.predict(best.network, task, without).argmax(-1).numpy()
    return {
        "kept": np.flatnonzero(kept_N).tolist(),
        "n_learners": len(kept_N),
        "k": best.rule.params.chosen_k,
        "n_changed": int(asked_SN[:, ~kept_N].any(1).sum()),
        "n_test": len(test.labels_S),
        "accuracy": float((predicted_S == test.labels_S).mean()),
    }

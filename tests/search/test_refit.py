from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distcel.core.ensemble import trained_ensemble
from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import RunFailedError
from distcel.search.refit import SmartRule, refit_best
from distcel.search.trials import TrialRecord, TrialStore
from distcel.train.checkpoint import EpochResult
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of


def test_the_smart_ensemble_predicts_the_softmax_of_its_vote() -> None:
    task = task_of(epochs=1)
    rule = SmartRule(PARAMS)
    (network,) = rule.train(task, CPU, None)
    probs_SC = rule.predict(network, task, task.valid)
    _, n_learners, n_classes = task.valid.probs_SNC.shape
    weights = network.state_dict
    ensemble = trained_ensemble(task.plan, n_learners, n_classes, PARAMS, weights).eval()
    images, probs = torch.tensor(task.valid.images_SCHW), torch.tensor(task.valid.probs_SNC)
    with torch.inference_mode():
        chosen_BN = ensemble.select(images)
    assert chosen_BN.sum(1).eq(PARAMS.chosen_k).all()
    vote_SC = (chosen_BN[:, :, None] * probs).sum(1)
    np.testing.assert_allclose(probs_SC, vote_SC.softmax(-1), rtol=1e-5)  # Eqs. 11-12
    correct = (probs_SC.argmax(1).numpy() == task.valid.labels_S).mean()
    assert correct == network.valid_accuracy


def test_a_trial_that_diverges_in_the_refit_is_not_the_best(tmp_path: Path) -> None:
    task = task_of(epochs=2)
    recipe = replace(task.experiment.selector_recipe, optimizer="sgd")
    task = replace(task, experiment=replace(task.experiment, selector_recipe=recipe))
    store, inline, folder = TrialStore(tmp_path / "trials"), InlineExecutor(), tmp_path / "refit"
    for number, (accuracy, lr) in enumerate([(0.5, 0.1), (0.9, 1e38), (0.7, 0.2)]):
        epochs = (EpochResult(1, 1.0, 1.0, accuracy, 0.1, 1_800_000_000_000),)
        store.keep(TrialRecord(number, replace(PARAMS, lr=lr), "COMPLETE", epochs))

    network, best = refit_best(task, store, inline, folder)
    assert best.number == 2
    alone = task.begin(best.params, CPU).run()
    assert [e.train_loss for e in best.epochs] == [e.train_loss for e in alone.epochs]
    assert network.valid_accuracy == best.valid_accuracy == alone.valid_accuracy
    failed = TrialStore(tmp_path / "trials")[1]
    assert failed.state == "FAILED"
    assert failed.reason == "refit of trial 1: a weight became NaN or infinite: try a smaller lr"
    _, again = refit_best(task, store, inline, folder)
    assert again == best  # its times as well: it was not trained again

    for number in (0, 2):
        store.keep(replace(store[number], state="FAILED", reason="nan"))
    with pytest.raises(RunFailedError, match="no trial of the search is complete"):
        refit_best(task, store, inline, folder)

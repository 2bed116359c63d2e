"""The warning before very many trainings."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain, combinations, islice
from pathlib import Path

import pytest

from distcel.experiment.loading import load_experiment
from distcel.search.options import choose
from distcel.search.prepare import prepare
from distcel.search.preview import MANY_LEARNERS, warn_of_many_learners


@pytest.mark.parametrize("n_learners", [MANY_LEARNERS, MANY_LEARNERS + 1])
def test_more_than_some_hundreds_of_learners_are_warned_of_with_the_estimate(
    n_learners: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = chain.from_iterable(combinations("0123456789", size) for size in (3, 4))
    sets = tuple(islice(groups, n_learners))
    many = replace(load_experiment("digits", "smoke"), max_samples=50, learner_sets=sets)
    _, options = choose(many, run_dir=tmp_path, selector_split="holdout", mlflow_uri="none")
    with caplog.at_level(logging.WARNING):
        warn_of_many_learners(prepare(many, options))
    if n_learners <= MANY_LEARNERS:
        assert caplog.messages == []
        return
    (message,) = caplog.messages
    assert message.startswith("301 of 301 base learners are to be trained; all trainings of a run")
    assert "0.0 h of one worker" in message
    assert message.endswith("With learner_sets = 'singles' there are 10")

from dataclasses import replace

import numpy as np

from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SelectionParams, learner_specs
from distcel.report.launch import evaluate, learner_accuracies, tables
from distcel.rules.consensus import RANDOM_DRAWS, Draws, consensus_rules, said_by
from distcel.search.trials import TrialRecord
from distcel.train.cache import CachedSplit
from distcel.train.checkpoint import EpochResult
from tests.cached_splits import split_of

SPECS = learner_specs(("a", "b", "c"))
BEST = TrialRecord(
    4,
    SelectionParams(k=2, epsilon=0.123, m=7, lr=0.5, gradient="exact"),
    "COMPLETE",
    (EpochResult(1, 1.0, 1.0, 0.8765, 0.1, 1_800_000_000_000),),
)


def test_table_1_by_hand() -> None:
    # Six learners (a, b, c, ab, ac, bc), one sample a class; each says class a of everything.
    probs = np.zeros((3, 6, 3), np.float32)
    probs[..., 0] = 1
    split = CachedSplit(np.zeros((3, 1, 2, 2), np.uint8), np.arange(3), probs)
    specialised, complementary, overall = learner_accuracies(split, SPECS)
    # On their own classes: 1, 0, 0, 1/2, 1/2, 0. On the others: 0, 1/2, 1/2, 0, 0, 1.
    assert specialised == np.mean([1, 0, 0, 0.5, 0.5, 0])
    assert complementary == np.mean([0, 0.5, 0.5, 0, 0, 1])
    assert overall == np.float64(1 / 3)


def test_a_learner_of_all_classes_has_no_complement() -> None:
    probs = np.zeros((2, 3, 2), np.float32)
    probs[..., 0] = 1
    split = CachedSplit(np.zeros((2, 1, 2, 2), np.uint8), np.arange(2), probs)
    assert learner_accuracies(split, learner_specs(("a", "b"))) == (0.5, 0.5, 0.5)


def said_of(train: CachedSplit, test: CachedSplit) -> dict[str, Draws]:
    """What the paper's rules say, e2e-CEL being right of the first half."""
    n_samples = len(test.labels_S)
    wrong = (test.labels_S + 1) % 3
    smart = np.eye(3)[np.where(np.arange(n_samples) < n_samples // 2, test.labels_S, wrong)][None]
    rules = consensus_rules(BEST.params.k, 0, train).items()
    return {"e2e_cel": smart} | {name: said_by(draws, train, test) for name, draws in rules}


def test_every_rule_is_measured_on_the_chosen_classes() -> None:
    train, test = split_of(0, n_classes=3), split_of(1, n_classes=3)
    said = said_of(train, test)
    assert said["random_selection"].shape == (RANDOM_DRAWS, 200, 3)
    evaluation = evaluate(said, test, SPECS)
    assert set(evaluation.accuracy) == {
        "e2e_cel",
        "super_learner",
        "unweighted_average",
        "plurality_vote",
        "random_selection",
        "oracle",
        "single_mean",
    }
    assert evaluation.accuracy["e2e_cel"] == 0.5
    average = test.probs_SNC.mean(1).argmax(-1)
    assert evaluation.accuracy["unweighted_average"] == (average == test.labels_S).mean()
    perfect = {n: np.broadcast_to(np.eye(3)[test.labels_S], d.shape) for n, d in said.items()}
    assert evaluate(perfect, test, SPECS).accuracy["random_selection"] == 1.0


def test_the_tables_hold_our_numbers_beside_the_papers() -> None:
    experiment = load_experiment("mnist", "quick")
    train, test = split_of(0, n_classes=3), split_of(1, n_classes=3)
    ours = evaluate(said_of(train, test), test, SPECS)
    ours = replace(ours, specialised=0.98765, accuracy=dict(ours.accuracy) | {"e2e_cel": 0.91234})
    rows = {"": ours, "part": ours}
    text = tables(experiment, rows, BEST, 55, 12, [8], "mnist, preset quick, seed 0")
    assert "been read" not in text
    again = tables(experiment, rows, BEST, 55, 12, [8, 12, 16], "mnist, preset quick, seed 0")
    assert "been read: mnist, preset quick, seed 0 after 8, 12." in again
    assert experiment.note in text
    assert "| distcel       | 98.77       |" in text
    assert "| distcel, part | 98.77       |" in text
    assert "| paper         | 97.50       | 86.80         | 89.60   |" in text
    assert "| distcel       | 91.23   |" in text
    assert "| paper         | 98.55   | 96.88 | 96.81 | 95.99 | 96.83 | -      |" in text
    assert (
        "| distcel | 55  | 2   | 0.123   | -   | 0.5 | exact    | sum  | 87.65          |" in text
    )
    assert "| paper   | 55  | 10  |" in text

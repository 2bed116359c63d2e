from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distcel.data.splits import Split, Splits, load_splits
from distcel.data.subsets import (
    client_indices,
    client_shares,
    held_out_parts,
    hold_out,
    specialised_indices,
    specs_of,
)
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.learner_sets import Clients, LearnerSpec
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SelectorSplit
from tests.made_data import balanced

DIGITS = load_experiment("digits", "smoke")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(DIGITS, folder, folder, seed=0)


def ids(split: Split) -> list[str]:
    found: list[str] = split.sample_ids.to_pylist()
    return found


def members(parts: list[NDArray[np.bool_]], labels: NDArray[np.int64]) -> list[list[int]]:
    """The number of samples of each class in each part."""
    return [np.bincount(labels[part], minlength=labels.max() + 1).tolist() for part in parts]


def test_the_thirds_are_a_partition_by_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [31, 9, 50]))
    parts = held_out_parts(labels, "crossfit", seed=0)
    np.testing.assert_array_equal(np.sum(parts, 0), np.ones(90))
    for counts in members(parts, labels):
        np.testing.assert_allclose(counts, [31 / 3, 3, 50 / 3], atol=1)


def test_the_holdout_is_a_fifth_of_each_class() -> None:
    parts = held_out_parts(balanced(3, 20), "holdout", seed=0)
    assert members(parts, balanced(3, 20)) == [[4, 4, 4]]


def test_nothing_is_held_out_of_train() -> None:
    assert held_out_parts(balanced(3, 1), "train", seed=0) == []


@pytest.mark.parametrize("selector_split", ["holdout", "crossfit"])
def test_the_draw_depends_on_the_seed(selector_split: SelectorSplit) -> None:
    first, again, other = (held_out_parts(balanced(3, 20), selector_split, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("selector_split", "needed"), [("holdout", 5), ("crossfit", 3)])
def test_a_class_with_too_few_samples_is_refused(
    selector_split: SelectorSplit, needed: int
) -> None:
    held_out_parts(balanced(2, needed), selector_split, 0)
    labels = np.delete(balanced(2, needed), 0)
    with pytest.raises(InvalidInputError, match=f"{needed} training samples of every class"):
        held_out_parts(labels, selector_split, 0)


def test_held_out_samples_leave_train_and_nothing_else_changes(splits: Splits) -> None:
    whole = splits["train"]
    (held_out,) = held_out_parts(whole.labels_S, "holdout", seed=0)
    found = hold_out(splits, held_out)
    assert not set(ids(found["train"])) & set(ids(found["holdout"]))
    assert sorted(ids(found["train"]) + ids(found["holdout"])) == sorted(ids(whole))
    place = {sample_id: i for i, sample_id in enumerate(ids(whole))}
    for part in (found["train"], found["holdout"]):
        rows = [place[sample_id] for sample_id in ids(part)]
        np.testing.assert_array_equal(part.labels_S, whole.labels_S[rows])
        np.testing.assert_array_equal(part.images_SCHW, whole.images_SCHW[rows])
    assert found["valid"] is splits["valid"]
    assert found["test"] is splits["test"]


def test_the_digest_depends_on_the_data_and_the_held_out_part(splits: Splits) -> None:
    labels = splits["train"].labels_S
    parts = held_out_parts(labels, "crossfit", 0) + held_out_parts(labels, "holdout", 0)
    digests = [hold_out(splits, part).digest for part in parts]
    digests.append(hold_out(replace(splits, digest="other"), parts[0]).digest)
    assert len({splits.digest, *digests}) == 6
    assert hold_out(splits, parts[0]).digest == digests[0]


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 50),
    data=st.data(),
)
def test_specialised_subsets_hold_the_specialty_share(
    counts: list[int], share: float, seed: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(1, min(2, len(counts) - 1)))
    spec = LearnerSpec("some", tuple(range(size)))
    chosen = specialised_indices(labels, spec, share, seed)
    assert len(np.unique(chosen)) == len(chosen)
    own = int(np.isin(labels[chosen], spec.classes).sum())
    total = sum(counts[:size]) / share, sum(counts[size:]) / (1 - share)
    # As many as either its own samples or the others allow, to the nearest sample.
    assert abs(own - share * min(total)) <= 0.5
    assert abs(len(chosen) - min(total)) <= 1


def test_a_learner_of_all_classes_takes_all_samples() -> None:
    labels = balanced(2, 5)
    assert specialised_indices(labels, LearnerSpec("ant+bee", (0, 1)), 0.5, 0).tolist() == [
        *range(10)
    ]


@pytest.mark.parametrize("alpha", [0.1, 1.0, 1000.0])
def test_the_samples_of_clients_are_a_partition(alpha: float) -> None:
    labels, clients = balanced(4, 500), Clients(5, alpha)
    parts = [client_indices(labels, clients, i, seed=3) for i in range(5)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(2000))
    shares_NC = client_shares(clients, 4, seed=3)
    counts_NC = [np.bincount(labels[part], minlength=4) for part in parts]
    np.testing.assert_allclose(counts_NC, 500 * shares_NC, atol=1)


def test_a_clients_classes_are_those_it_has_more_of_than_all_together() -> None:
    labels, clients = np.repeat([0, 1, 2], [100, 300, 600]), Clients(4, 0.3)
    specs = specs_of(replace(DIGITS, learner_sets=clients), ("a", "b", "c"), labels, seed=1)
    assert [(spec.name, spec.client) for spec in specs] == [(f"client {i}", i) for i in range(4)]
    for spec in specs:
        assert spec.client is not None
        counts = np.bincount(labels[client_indices(labels, clients, spec.client, 1)], minlength=3)
        mix = counts / counts.sum()
        assert spec.classes == tuple(np.flatnonzero(mix > [0.1, 0.3, 0.6]))


def test_few_samples_for_many_clients_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"0\.2% of the samples"):
        client_shares(Clients(600, 1.0), 2, seed=0)


@pytest.mark.parametrize(("share", "held_out"), [(1 / 4, 5), (1 / 20, 1)])
def test_the_holdout_can_have_another_share(share: float, held_out: int) -> None:
    (part,) = held_out_parts(balanced(3, 20), "holdout", seed=0, share=share)
    assert members([part], balanced(3, 20)) == [[held_out] * 3]
    with pytest.raises(InvalidInputError, match="one over a whole number"):
        replace(DIGITS, holdout_share=0.3)

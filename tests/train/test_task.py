import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np

from distcel.core.networks import NetworkPlan
from distcel.data.splits import load_splits
from distcel.experiment.loading import load_experiment
from distcel.train.selection import TrainingTask

EXPERIMENT = load_experiment("digits", "smoke")


def test_a_worker_reads_the_arrays_of_a_shared_task_in_place(tmp_path: Path) -> None:
    # Ray keeps these buffers in its object store, which all workers of a node map.
    data = load_splits(EXPERIMENT, tmp_path, tmp_path, seed=0)
    train = data["train"]
    probs = np.random.default_rng(0).random((len(train.labels_S), 5, 10), dtype=np.float32)
    with_probs = replace(train, probs_SNC=probs)
    half = with_probs.where(np.arange(len(train.labels_S)) % 2 == 0)
    splits = replace(data, by_name={"train": with_probs, "valid": half})
    plan = NetworkPlan(EXPERIMENT.network, data.image_shape, *data.channel_statistics())
    buffers: list[pickle.PickleBuffer] = []
    task = TrainingTask(EXPERIMENT, plan, splits, seed=0)
    shared = pickle.dumps(task, protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) > 100 * len(shared)
    assert not any(sample_id.encode() in shared for sample_id in train.sample_ids.to_pylist())

    found = pickle.loads(shared, buffers=[buffer.raw() for buffer in buffers])
    assert isinstance(found, TrainingTask)
    for name, split in splits.by_name.items():
        again = found.splits[name]
        assert np.shares_memory(again.images_SCHW, split.images_SCHW)
        assert np.shares_memory(again.labels_S, split.labels_S)
        assert np.shares_memory(again.probs_SNC, split.probs_SNC)
        assert again.sample_ids.equals(split.sample_ids)
        addresses = [
            [buffer.address for buffer in ids.buffers() if buffer is not None]
            for ids in (again.sample_ids, split.sample_ids)
        ]
        assert addresses[0] == addresses[1]

import pytest

from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import InvalidInputError


@pytest.mark.parametrize(
    ("nodes", "share", "expected"),
    [
        ([{"CPU": 2.0}], 0.25, WorkerPool(2, 1.0, 0.0)),
        ([{"CPU": 2.0}, {"CPU": 8.0}, {}], 0.25, WorkerPool(10, 1.0, 0.0)),
        ([{"CPU": 16.0, "GPU": 1.0}], 0.25, WorkerPool(4, 1.0, 0.25)),
        ([{"CPU": 2.0, "GPU": 1.0}], 0.25, WorkerPool(4, 0.5, 0.25)),
        ([{"CPU": 64.0, "GPU": 8.0}], 1.0, WorkerPool(8, 1.0, 1.0)),
        ([{"CPU": 64.0, "GPU": 8.0}], 2.0, WorkerPool(4, 1.0, 2.0)),
        # One share is never spread over two GPUs, nor an actor over two nodes.
        ([{"CPU": 8.0, "GPU": 2.0}], 0.4, WorkerPool(4, 1.0, 0.4)),
        ([{"CPU": 8.0, "GPU": 2.0}], 0.6, WorkerPool(2, 1.0, 0.6)),
        ([{"CPU": 80.0, "GPU": 8.0}], 0.3, WorkerPool(24, 1.0, 0.3)),
        ([{"CPU": 8.0, "GPU": 1.0}] * 3, 1.0, WorkerPool(3, 1.0, 1.0)),
        # The head has the cores, the GPU node has few.
        ([{"CPU": 32.0}, {"CPU": 1.0, "GPU": 1.0}], 0.25, WorkerPool(4, 0.25, 0.25)),
    ],
)
def test_there_is_an_actor_a_core_or_a_share_of_a_gpu(
    nodes: list[dict[str, float]], share: float, expected: WorkerPool
) -> None:
    assert WorkerPool.on_nodes(nodes, share) == expected


@pytest.mark.parametrize("share", [4.0, 1.5])
def test_a_share_that_no_node_has_is_refused(share: float) -> None:
    with pytest.raises(InvalidInputError, match=r"--gpus-per-worker at most 1, .* got"):
        WorkerPool.on_nodes([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 2.0}], share)

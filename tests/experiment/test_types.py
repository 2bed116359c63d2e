import math

import pytest

from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Recipe, SelectionParams, first_point


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "expected a whole number k >= 1, but got 0"),
        ({"k": 1.5}, "expected a whole number k >= 1, but got 1.5"),
        ({"k": True}, "expected a whole number k >= 1, but got True"),
        ({"epsilon": 0.0}, "expected 0 < epsilon < infinity, but got 0.0"),
        ({"epsilon": math.nan}, "expected 0 < epsilon < infinity, but got nan"),
        ({"epsilon": "0.1"}, "expected 0 < epsilon < infinity, but got '0.1'"),
        ({"m": 0}, "expected a whole number m >= 1, but got 0"),
        ({"lr": -1.0}, "expected 0 < lr < infinity, but got -1.0"),
        ({"lr": math.inf}, "expected 0 < lr < infinity, but got inf"),
        ({"gradient": "exakt"}, "expected gradient in .*, but got 'exakt'"),
        ({"vote": "loud"}, "expected vote in .*, but got 'loud'"),
    ],
)
def test_a_point_outside_the_ranges_is_refused(change: dict[str, object], message: str) -> None:
    valid = {"k": 3, "epsilon": 0.1, "m": 10, "lr": 1.0, "gradient": "exact"}
    SelectionParams(**valid)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=message):
        SelectionParams(**(valid | change))  # type: ignore[arg-type]


def test_k_above_n_is_refused_with_the_range() -> None:
    point = SelectionParams(k=56, epsilon=0.1, m=10, lr=1.0, gradient="exact")
    with pytest.raises(InvalidInputError, match="expected 1 <= k <= n = 55, but got 56"):
        point.require_k_within(55)


def test_architectures_and_recipes_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="4 channel widths for resnet9"):
        Architecture("resnet9", (64, 128))
    with pytest.raises(InvalidInputError, match="family in"):
        Architecture("vgg")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="expected a whole number epochs >= 1, but got 0"):
        Recipe("adam", lr=0.1, epochs=0, batch_size=8)
    for wrong in (
        {"optimizer": "Adam"},
        {"schedule": "cosine"},
        {"augmentation": "filp"},
        {"precision": "bf16"},
    ):
        valid = {"optimizer": "adam", "lr": 0.1, "epochs": 1, "batch_size": 8}
        with pytest.raises(InvalidInputError, match=f"expected {next(iter(wrong))} in .*, but got"):
            Recipe(**(valid | wrong))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="0 < lr < infinity"):
        Recipe("adam", lr=-0.1, epochs=1, batch_size=8)
    assert Recipe("sgd", 0.1, 1, 8, momentum=0.9).momentum == 0.9
    with pytest.raises(InvalidInputError, match=r"momentum 0 with optimizer adam, but got 0\.9"):
        Recipe("adam", 0.1, 1, 8, momentum=0.9)


def test_trial_0_is_the_papers_point_within_what_the_user_fixed() -> None:
    experiment = load_experiment("mnist", "paper")
    assert first_point(experiment, 55, {}) == SelectionParams(10, 0.1, 1000, 1.0, "paper")
    assert first_point(experiment, 6, {}).k == 6
    assert first_point(experiment, 55, {"k": 3, "gradient": "exact"}) == SelectionParams(
        3, 0.1, 1000, 1.0, "exact"
    )
    with pytest.raises(InvalidInputError, match="expected 1 <= k <= n = 55, but got 56"):
        first_point(experiment, 55, {"k": 56})

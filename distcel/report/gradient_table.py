"""The gradients side by side as a Markdown table, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from distcel.evaluate.gradients import Estimator, GradientStudy
from distcel.evaluate.outcomes import mean_and_deviation
from distcel.report.markdown import bullets, markdown

HEADER = [
    "gradient",
    "valid, same epochs",
    "test, same epochs",
    "seconds an epoch",
    "valid, same time",
]
_NOTES = bullets(
    [
        "The search found k, epsilon and lr with that trial's own gradient. Where k is n, all "
        "gradients are zero.",
        "`paper` is Eq. 7 with the 1/epsilon that it leaves out and a baseline that lowers its "
        "variance.",
        "*Same time*: on valid after the last epoch that ended within the time that the fastest "
        "gradient of the seed took for all its epochs, whatever else ran on the machine. An "
        "epoch's time includes measuring the valid split, and a schedule of the lr spans all "
        "epochs, so that a slow gradient is read while its lr is high.",
        "A number in brackets: of so many seeds only, the others having diverged or ended no epoch "
        "in time; a dash: of none.",
    ]
)


def gradient_table(studies: Sequence[GradientStudy]) -> str:
    """Accuracies in percent, mean and standard deviation over the seeds, under a caption.

    Args:
        studies: one a seed, at least one.
    """
    n_epochs = max(len(run.epochs) for study in studies for run in study.runs)
    caption = (
        "The knapsack layer's gradients side by side at the best trial's k, epsilon and "
        f"lr: accuracy in % after {n_epochs} epochs of each"
    )
    seen = {run.estimator: None for study in studies for run in study.runs}
    rows = [(estimator.title, _cells(studies, estimator)) for estimator in seen]
    return f"{caption}\n\n{markdown(HEADER, rows)}\n\n{_NOTES}"


def _cells(studies: Sequence[GradientStudy], estimator: Estimator) -> list[str]:
    runs = [(study, study.run_of(estimator)) for study in studies]
    found = [(study, run) for study, run in runs if run is not None]
    in_time = [run.valid_accuracy_within(study.shortest) for study, run in found]
    return [
        _cell([run.epochs[-1].valid_accuracy for _, run in found], len(studies)),
        _cell([run.test_accuracy for _, run in found], len(studies)),
        _cell([run.seconds / len(run.epochs) for _, run in found], len(studies), scale=1.0),
        _cell([value for value in in_time if value is not None], len(studies)),
    ]


def _cell(values: Sequence[float], n_seeds: int, scale: float = 100.0) -> str:
    if not values:
        return "-"
    text = mean_and_deviation(values, scale)
    return text if len(values) == n_seeds else f"{text} ({len(values)})"

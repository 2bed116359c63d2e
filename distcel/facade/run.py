"""A run directory as an object: its results, trials and ensemble."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcel.experiment.architecture import OwnArchitecture
from distcel.experiment.errors import invalid
from distcel.experiment.types import Experiment, SelectionParams

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from distcel.serve.ensemble import Ensemble


class Run:
    """A run directory as an object: its results, trials and ensemble.

    Args:
        run_dir: the directory of a run that `fit` or the command line made.
        experiment: the Experiment that was run, if it is the user's own; None for a preset.
    """

    def __init__(self, run_dir: str | Path, experiment: Experiment | None = None) -> None:
        self.run_dir = Path(run_dir).absolute()
        self.experiment = experiment

    def __repr__(self) -> str:
        return f"Run({str(self.run_dir)!r})"

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`.

        Raises:
            InvalidInputError: the run has no readable `results.json`, as before it is finished.
        """
        return read_facts(self.run_dir / "results.json", "a run that is finished")

    @property
    def best(self) -> SelectionParams:
        """The hyperparameters of the trial that is best on valid."""
        return SelectionParams.from_dict(self.results["best"])

    def leaderboard(self) -> pd.DataFrame:
        """Accuracy on test, as a fraction, of e2e-CEL and the rules that it is compared with.

        After `compare` it has every rule, with its expected calibration error.
        """
        from distcel.report.tables import leaderboard

        path = self.run_dir / "comparison.json"
        comparison = read_facts(path, "a comparison") if path.is_file() else None
        if comparison and comparison["best"] != self.results["best"]:  # from before the last launch
            comparison = None
        return leaderboard(self.results, comparison)

    def trials(self) -> pd.DataFrame:
        """A row a trial: hyperparameters, state, accuracy on valid, epochs, seconds and reason."""
        import pandas as pd

        from distcel.search.trials import TrialStore

        facts = read_facts(self.run_dir / "run.json", "a run directory")
        folder = self.run_dir / "search" / facts["search_key"] / "trials"
        rows = [
            {
                "trial": record.number,
                **record.params.as_dict(),
                "state": record.state,
                "valid_accuracy": record.valid_accuracy if record.epochs else None,
                "epochs": len(record.epochs),
                "seconds": record.seconds,
                "reason": record.reason,
            }
            for record in TrialStore(folder).snapshot()
        ]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    @cached_property
    def study(self) -> optuna.Study:
        """The trials that have ended as a study of Optuna, with each epoch's accuracy on valid.

        It is in memory: what is added to it is not kept.

        Raises:
            InvalidInputError: the run has no readable `details.json`, as before it is finished.
        """
        from optuna.distributions import json_to_distribution

        from distcel.search.study import study_of

        details = read_facts(self.run_dir / "details.json", "a run that is finished")
        space = {name: json_to_distribution(text) for name, text in details["space"].items()}
        return study_of(details["trials"], space)

    @cached_property
    def ensemble(self) -> Ensemble:
        """The smart ensemble with its base learners."""
        from distcel.serve.saved import load_ensemble

        network = self.experiment.network if self.experiment else None
        own = network.build if isinstance(network, OwnArchitecture) else None
        return load_ensemble(self.run_dir, own)


def load_run(run_dir: str | Path, experiment: Experiment | None = None) -> Run:
    """Load the run of a run directory.

    Args:
        run_dir: the directory of a run.
        experiment: the Experiment that was run, if it is the user's own; None for a preset.

    Raises:
        InvalidInputError: this is not a run directory.
    """
    read_facts(Path(run_dir) / "run.json", "a run directory")
    return Run(run_dir, experiment)


def read_facts(path: Path, rule: str) -> dict[str, Any]:
    """The content of a JSON file of a run directory.

    Raises:
        InvalidInputError: the file is missing or unreadable; the message names the rule.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = f"{str(path.parent)!r}, without a {path.name} that can be read"
        raise invalid(rule, found, "give the run directory of a launch") from None
    return content

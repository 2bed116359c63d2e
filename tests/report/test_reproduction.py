import json
import time
from pathlib import Path

import pytest

from distcel.report.document import (
    reproduction_curves,
    reproduction_metrics,
    reproduction_report,
    reproduction_tables,
    write_reproduction,
)
from tests.report.made_results import FEMALE, NAMES, made_results


def test_the_folder_holds_it_all(tmp_path: Path) -> None:
    results = made_results(FEMALE)
    text = write_reproduction(tmp_path, results)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept.pop("over_seeds")["gain_from_learners"] is None  # there are no controls
    assert kept == results
    assert (tmp_path / "report.md").read_text() == text == reproduction_report(kept)
    seed = kept["seeds"][1]["comparison"]
    assert seed["rules"]["unweighted_average"]["calibration_error"] == pytest.approx(0.425)
    assert set(seed["rules"]["single_mean"]["class_accuracy"]) == set(NAMES)
    assert seed["rules"]["unweighted_average"]["slice_accuracy"] == {"female": 1.0}
    assert seed["slice_sizes"] == {"female": 10}
    assert seed["against"]["e2e_cel"]["unweighted_average"]["mean"] == pytest.approx(0.25)
    for name in ("figure2", "pareto"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.*g")}
    time.sleep(1)  # a date would be another one
    write_reproduction(tmp_path, results)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*g")} == drawn


def test_what_mlflow_shows() -> None:
    results = made_results({})
    metrics = reproduction_metrics(results)
    assert metrics["accuracy/e2e_cel"] == pytest.approx(0.75)
    assert metrics["calibration_error/unweighted_average"] == pytest.approx(0.425)
    assert "calibration_error/oracle" not in metrics
    curves = reproduction_curves(results)
    assert curves["e2e_cel"] == pytest.approx({1: 0.51, 2: 0.80, 3: 0.79, 6: 0.87})
    description = reproduction_tables(results)
    assert description.startswith("`command`\n\n")
    tables = [part for part in description.split("\n\n") if part.startswith("Table ")]
    assert [table[:7] for table in tables] == ["Table 1", "Table 2", "Table 3"]
    assert description.endswith("are artifacts of this run.\n")

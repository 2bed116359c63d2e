"""The page of a run: what it has, and that a browser shows it without a request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from distcel.report.page import write_page
from tests.report.browser import CHROMIUM, visit
from tests.report.made_results import FEMALE, NAMES, made_results

SPACE = {
    **{name: CategoricalDistribution([value]) for name, value in (("k", 2), ("m", 7))},
    "epsilon": FloatDistribution(0.01, 1.0, log=True),
    "lr": FloatDistribution(0.1, 3.0, log=True),
    "gradient": CategoricalDistribution(["exact"]),
    "vote": CategoricalDistribution(["sum"]),
}
HOSTILE = "</script><script>document.title = 'x'</script><b>"
DOT = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def details(n_trials: int = 4) -> dict[str, Any]:
    """A launch's `details.json` of made-up numbers; a class has a name that would end a script."""
    names, learners = [*NAMES[:3], HOSTILE], [f"learner {i}" for i in range(6)]
    params = {"k": 2, "m": 7, "gradient": "exact", "vote": "sum"}
    trials = [
        {
            "number": i,
            "params": {**params, "epsilon": 0.01 + i / 100, "lr": 0.5 + (i * 7 % 10) / 10},
            "state": "FAILED" if i == 1 else "COMPLETE",
            "valid_accuracies": [] if i == 1 else [0.5, 0.6 + (i * 7 % 10) / 100],
            "seconds": 1.0,
            "reason": "a loss became NaN" if i == 1 else "",
        }
        for i in range(n_trials)
    ]
    bins = [{"n": 3, "confidence": 0.4, "accuracy": 0.5}]
    voter = {"learner": 0, "predicted": 1, "probability": 0.75}
    sample = {"sample_id": "test/1", "label": 0, "predicted": 1, "probability": 0.75}
    return {
        "class_names": names,
        "learners": learners,
        "num_samples": n_trials,
        "imagenet_weights": "published",
        "space": {name: distribution_to_json(one) for name, one in SPACE.items()},
        "trials": trials,
        "asked_by_class": [[0.5] * 6] * 4,
        "confusion": [[9, 1, 0, 0]] * 4,
        "reliability": {"before": bins, "after": bins},
        "least_certain": [{**sample, "margin": 0.001, "voters": [voter], "png": DOT}],
        "rivals_on_valid": {"unweighted_average": 0.5, "plurality_vote": 0.4},
    }


def launch_folder(folder: Path, n_trials: int = 4, compared: bool = False) -> Path:
    """The JSON files of a launch."""
    seed = made_results({})["seeds"][0]
    results = seed["launch"] | {
        "precision": {"base_learners": "float32"},
        "valid_accuracy_over_k": [0.5, 0.7, 0.6, 0.6, 0.6, 0.5],
        "test_readings": 1,
        "source_digest": "00ff",
        "fixed": {"m": 7},
        "calibration": {"temperature": 1.25},
    }
    write(folder / "results.json", results)
    write(folder / "details.json", details(n_trials))
    if compared:
        write(folder / "comparison.json", {"best": results["best"], **seed["comparison"]})
    return folder


def write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2 [^>]*>(.*?)</h2>", page.read_text())


def figures(page: Path) -> list[Any]:
    found = re.findall(r'<script type="application/json".*?>(.*?)</script>', page.read_text())
    return [json.loads(text) for text in found]


def test_a_launch_has_all_its_sections(tmp_path: Path) -> None:
    page = write_page(launch_folder(tmp_path))
    assert headings(page) == [
        *("Result", "Table 1", "Table 2", "Table 3", "Accuracy over k", "Accuracy over cost"),
        *("Search history", "Parallel coordinates", "Learners by class", "Confusion matrix"),
        *("Reliability diagram", "Least certain selections", "Time by stage", "Configuration"),
        *("Versions", "To get it again"),
    ]
    text = page.read_text()
    assert "e2e-CEL classifies 75.00 % of the 40 test images correctly" in text
    assert f'src="data:image/png;base64,{DOT}"' in text
    assert "the temperature that was fitted on valid, 1.25</p>" in text
    assert "git checkout 0123abc  # with changes that were not committed" in text
    assert (
        "distcel search --dataset digits --preset quick --seed 0 --num-samples 4 --fix m=7" in text
    )


def test_importance_and_the_comparison_where_they_are_there(tmp_path: Path) -> None:
    page = write_page(launch_folder(tmp_path, n_trials=50, compared=True))
    found = headings(page)
    assert "Parameter importance" in found
    bars = [data for one in figures(page) for data in one["data"] if data["type"] == "bar"]
    assert sorted(bars[0]["y"]) == ["epsilon", "lr"]  # what was searched
    assert "Figure 2" in found
    comparison = tmp_path / "comparison.json"
    write(comparison, json.loads(comparison.read_text()) | {"best": {"k": 1}})
    assert "Figure 2" not in headings(write_page(tmp_path))  # of an earlier launch


def test_a_reproduction_has_intervals_the_band_and_notes(tmp_path: Path) -> None:
    write(tmp_path / "results.json", made_results(FEMALE))
    page = write_page(tmp_path)
    found, text = headings(page), page.read_text()
    assert [*found[:3], *found[-2:]] == [
        "Result",
        "In short",
        "Table 1",
        "To get it again",
        "Notes",
    ]
    assert "Over 2 seeds, e2e-CEL classifies 75.00 [75.00, 75.00] %" in text
    assert '"fill":"toself"' in text
    assert "<em>Level</em>" in text
    assert "a|b" in text


def test_nothing_of_it_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    text = write_page(launch_folder(tmp_path)).read_text()
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # plotly.js has URLs in texts
    for attribute in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", own):
        assert attribute.startswith(("#", "data:")), attribute
    assert "default-src 'none'" in own
    assert text.count("plotly.js v") == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_it_without_an_error_or_a_request(
    width: int, dark: bool, tmp_path: Path
) -> None:
    page = write_page(launch_folder(tmp_path / "run", n_trials=4, compared=True))
    scripts = [
        "document.querySelectorAll('.chart').length",
        "document.querySelectorAll('.chart .main-svg:first-of-type').length",
        "document.documentElement.scrollWidth",
        "getComputedStyle(document.body).backgroundColor",
        "document.title",
    ]
    found = visit(page, scripts, tmp_path / "browser", width, dark)
    assert found.problems == []
    assert [url for url in found.requests if not url.startswith("data:")] == [page.as_uri()]
    charts, drawn, needed, back, title = found.answers
    assert (charts, drawn) == (9, 9)
    assert needed <= width  # nothing but a table scrolls sideways
    assert back == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert title == "digits, preset quick, m = 7, seed 0 - distcel"

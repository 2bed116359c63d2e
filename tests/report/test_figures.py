from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from distcel.report import figures
from distcel.rules.registry import RULES
from tests.report.made_results import CURVES, made_results


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, in place of their files."""
    found: list[Figure] = []
    monkeypatch.setattr(figures, "_save_with_legend", lambda figure, _: found.append(figure))
    return found


def lines(figure: Figure) -> dict[str, list[list[float]]]:
    """The points of each line, by what the legend calls it."""
    (axes,) = figure.axes
    return {
        str(line.get_label()): np.asarray(line.get_xydata()).round(6).tolist()
        for line in axes.lines
    }


def test_figure_2_shows_every_rules_means_over_the_common_ks(
    drawn: list[Figure], tmp_path: Path
) -> None:
    figures.draw_figure_2(made_results({}), tmp_path)
    found = lines(drawn[0])
    assert set(found) == {RULES[key].title for key in CURVES}
    assert found["e2e-CEL"] == [[1, 51], [2, 80], [3, 79], [6, 87]]
    assert found["UA"] == [[k, 50] for k in (1, 2, 3, 6)]


def test_the_pareto_front_is_drawn_over_its_cost(drawn: list[Figure], tmp_path: Path) -> None:
    figures.draw_pareto(made_results({}), tmp_path)
    found = lines(drawn[0])
    assert found["Pareto front of e2e-CEL"] == [[1.5, 51], [2, 80], [4, 87]]
    (axes,) = drawn[0].axes
    points = {
        container.get_label(): np.asarray(container[0].get_xydata()).round(6).tolist()
        for container in axes.containers
    }
    assert points["e2e-CEL"] == [[1.5, 51], [2, 80], [2.5, 79], [4, 87]]
    assert points["UA"] == [[3, 50]]
    assert [text.get_text() for text in axes.texts] == ["1", "k = 2, knee", "3", "6"]

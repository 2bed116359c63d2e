import json
import re
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from distcel.report import results_page as results_file
from distcel.report.reproduction import write
from distcel.report.results_page import _laid_out, _summary, put_section
from tests.report.test_reproduction import outcomes

PAPER = {"e2e_cel": 0.91, "unweighted_average": 0.85}
ACCURACY = {"e2e-CEL": 0.9, "SL": 0.8, "UA": 0.7, "oracle": 0.99, "mean base learner": 0.98}


def seed(number: int, paper: dict[str, float] | None, **more: float) -> Any:
    results = {"n_learners": 15, "best": {"k": 4 + number}, "paper": paper}
    return {"results": results, "accuracy": {**ACCURACY, **more}}


def report_of(folder: Path, title: str, seeds: list[Any], command: str = "command") -> Path:
    """What `reproduction.write` leaves, in brief."""
    folder.mkdir(exist_ok=True)
    link = "![Figure 2](./figure2.svg)"
    (folder / "report.md").write_text(f"# {title}\n\n`{command}`\n\n{link}\n")
    (folder / "results.json").write_text(json.dumps({"seeds": seeds}))
    for name in ("figure2.svg", "pareto.svg"):
        (folder / name).write_text("<svg/>")
    return folder


def cells(text: str, title: str) -> dict[str, str]:
    """A row of the summary."""
    header, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith((f"| {title} ", "|  "))
    )
    return dict(zip(header, row, strict=True))


def test_a_file_of_several_reports_has_each_once(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    by_hand = "# Results\n\nBy hand.\n\n## other\n\nstays\n\n## other\n\nstays too\n"
    file.write_text(by_hand)
    for command in ("first", "second"):
        report = report_of(tmp_path / "report", "a, preset quick", [seed(0, None)], command)
        put_section(file, report, "a-quick")
    text = file.read_text()
    ours = "## a, preset quick\n\n`second`\n\n![Figure 2](figures/a-quick/figure2.svg)\n"
    assert text == f"{by_hand}\n{ours}"
    for figure in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (tmp_path / figure).read_text() == "<svg/>"


def test_two_sections_are_summed_up_before_them(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("# Results\n\nBy hand.\n")
    beyond = {"single network": 0.93, "brief single network": 0.92, "learned vote of few": 0.91}
    beyond |= {"e2e-CEL by Eq. 7": 0.89}
    of_a = [
        seed(0, PAPER, **beyond, **{"soft gating": 0.81, "logistic stacking": 0.85}),
        seed(1, PAPER, **{**beyond, "e2e-CEL": 0.92, "logistic stacking": 0.83}),
    ]
    for title, seeds in (("a", of_a), ("b", [seed(0, None)])):
        report = report_of(tmp_path / title, f"{title}, preset quick", seeds)
        put_section(file, report, f"{title}-quick")
        put_section(file, report, f"{title}-quick")  # the summary is replaced
    text = file.read_text()
    headings = ["All sections", "a, preset quick", "b, preset quick"]
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == headings
    assert text.startswith("# Results\n\nBy hand.\n\n## All sections\n")
    assert cells(text, "a, preset quick") == {
        "": "a, preset quick",
        "seeds": "2",
        "e2e-CEL": "91.00 ± 1.41",
        "paper's e2e-CEL": "91.00",
        "e2e-CEL minus UA": "+21.00",
        "paper's lead": "+6.00",
        "k": "4, 5 of 15",
        "e2e-CEL by Eq. 7": "89.00 ± 0.00",
        "learned vote of few": "91.00 ± 0.00",
        "best other rule": "logistic stacking 84.00 ± 1.41",
        "single network": "93.00 ± 0.00",
        "brief single network": "92.00 ± 0.00",
    }
    assert cells(text, "b, preset quick") == {
        "": "b, preset quick",
        "seeds": "1",
        "e2e-CEL": "90.00",
        "paper's e2e-CEL": "-",
        "e2e-CEL minus UA": "+20.00",
        "paper's lead": "-",
        "k": "4 of 15",
        "e2e-CEL by Eq. 7": "-",
        "learned vote of few": "-",
        "best other rule": "SL 80.00",
        "single network": "-",
        "brief single network": "-",
    }


def test_a_section_without_usable_results_has_a_row_of_dashes(tmp_path: Path) -> None:
    file, seeds = tmp_path / "RESULTS.md", [seed(0, PAPER)]
    for title in ("a", "b"):
        report = report_of(tmp_path / title, f"{title}, preset quick", seeds)
        put_section(file, report, f"{title}-quick")
    of_a = tmp_path / "figures" / "a-quick" / "results.json"
    for content in ("{", "{}", '{"seeds": []}', "[]", json.dumps({"seeds": [{"results": {}}]})):
        of_a.write_text(content)
        put_section(file, tmp_path / "b", "b-quick")
        text = file.read_text()
        assert set(cells(text, "a, preset quick").values()) == {"a, preset quick", "-"}
        assert cells(text, "b, preset quick")["e2e-CEL"] == "90.00"


def test_a_row_is_of_the_folder_that_its_section_links_to(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    for name, accuracy in (("old", 0.1), ("other", 0.2), ("new", 0.9)):
        title = "b" if name == "other" else "a"
        report = report_of(tmp_path / name, title, [seed(0, None, **{"e2e-CEL": accuracy})])
        put_section(file, report, name)
    assert cells(file.read_text(), "a")["e2e-CEL"] == "90.00"


def test_all_sections_are_laid_out_anew_from_their_results(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    for name in "ab":
        write(tmp_path / name, f"{name}, preset quick", f"of {name}", outcomes({}), None)
        put_section(file, tmp_path / name, f"{name}-quick")
    before = file.read_text()
    file.write_text(before.replace("Table 4, every rule", "Table 4, of an earlier version"))
    put_section(file, tmp_path / "b", "b-quick")
    assert file.read_text() == before
    assert before.count("](figures/a-quick/figure2.svg)") == 1


def test_two_reproductions_that_end_at_once_are_both_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "RESULTS.md"
    folders = {title: report_of(tmp_path / title, title, [seed(0, None)]) for title in "ab"}
    second = Thread(target=put_section, args=(file, folders["b"], "b-quick"))

    def summary(*arguments: Any) -> str:
        if second.ident is None:  # the first one has read the file, which is not there yet
            second.start()
            second.join(timeout=1)
        return _summary(*arguments)

    monkeypatch.setattr(results_file, "_summary", summary)
    put_section(file, folders["a"], "a-quick")
    second.join()
    headings = re.findall(r"^## (.+)$", file.read_text(), flags=re.MULTILINE)
    assert headings == ["All sections", "a", "b"]


def test_the_projects_own_results_are_what_a_command_left() -> None:
    root = Path(__file__).parents[2]
    _, *parts = re.split(r"^## (.+)\n", (root / "RESULTS.md").read_text(), flags=re.MULTILINE)
    sections = list(zip(parts[::2], parts[1::2], strict=True))
    assert len(sections) > 2
    for title, body in sections:
        assert _laid_out(body, root / "figures").strip() == body.strip(), title
    assert _summary(sections[1:], root / "figures") == sections[0][1].strip()

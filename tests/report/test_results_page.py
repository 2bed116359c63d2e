import json
import re
import shutil
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from distcel.report import results_page
from distcel.report.document import write_reproduction
from distcel.report.results_page import (
    ALL_TABLE,
    CONTROLS_TABLE,
    add_reproduction,
    block,
    write_pages,
)
from tests.report.made_results import PAPER, made_results, training

ROOT = Path(__file__).parents[2]


def left_by(folder: Path, results: dict[str, Any]) -> Path:
    """The folder of a finished reproduction, without its drawings."""
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))
    for name in ("figure2.svg", "pareto.svg"):
        (folder / name).write_text("<svg/>")
    return folder


def rows_of(file: Path, name: str = ALL_TABLE) -> dict[str, dict[str, str]]:
    """The rows of one of the generated tables, by the name of the reproduction."""
    text, (begin, end) = file.read_text(), block(name)
    (table,) = [
        part
        for part in text.partition(begin)[2].partition(end)[0].split("\n\n")
        if part.startswith("|")
    ]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    return {re.sub(r"\[(.*)\].*", r"\1", row.pop("")): row for row in cells}


def headings(file: Path) -> list[str]:
    return re.findall(r"^## (.+)$", file.read_text(), flags=re.MULTILINE)


def test_a_reproduction_is_added_to_its_data_sets_page_once(tmp_path: Path) -> None:
    pages = tmp_path / "docs" / "results"
    for command in ("first", "second"):
        report = left_by(tmp_path / "report", made_results({}) | {"command": command})
        add_reproduction(pages, report, "digits-quick")
    text = (pages / "digits.md").read_text()
    assert headings(pages / "digits.md") == ["digits, preset quick", "Notes"]
    assert "`second`" in text
    assert "`first`" not in text
    images = re.findall(r"!\[.*\]\((.*)\)", text)
    assert images == ["digits-quick/figure2.svg", "digits-quick/pareto.svg"]
    for image in images:
        assert (pages / image).read_text() == "<svg/>"
    assert "digits, preset quick" in rows_of(tmp_path / "docs" / "results.md")


def test_a_page_has_all_reproductions_of_its_data_set_and_the_notes_once(tmp_path: Path) -> None:
    pages = tmp_path / "results"
    for split in ("train", "holdout"):
        found = made_results({})
        for seed in found["seeds"]:
            seed["launch"]["selector_split"] = split
        add_reproduction(pages, left_by(tmp_path / split, found), f"digits-{split}")
    add_reproduction(pages, left_by(tmp_path / "mnist", made_results({}, "mnist")), "mnist-quick")
    titles = ["digits, preset quick, selector split holdout", "digits, preset quick"]
    assert headings(pages / "digits.md") == [*titles, "Notes"]
    assert (pages / "digits.md").read_text().count("Calibration error:") == 1
    assert headings(pages / "mnist.md") == ["mnist, preset quick", "Notes"]
    text = (tmp_path / "results.md").read_text()
    assert [*rows_of(tmp_path / "results.md")] == [*titles, "mnist, preset quick"]
    for link in re.findall(r"\]\((results/.*?)\)", text):
        assert (tmp_path / link).is_file()


def test_the_table_of_all_by_hand(tmp_path: Path) -> None:
    pages, found = tmp_path / "results", made_results({})
    for seed, (smart, stacking, vote) in zip(
        found["seeds"], [(0.90, 0.85, 0.91), (0.92, 0.83, 0.93)], strict=True
    ):
        seed["launch"]["paper"] = PAPER
        rules = seed["comparison"]["rules"]
        rules["learned_vote"] = rules["stacking"] | {
            "title": "learned vote of few",
            "accuracy": vote,
            "training": training(0.1),
        }
        for key, accuracy in [("e2e_cel", smart), ("stacking", stacking), ("oracle", 0.99)]:
            rules[key]["accuracy"] = accuracy
        rules["single_network"]["accuracy"] = 0.95
        against = seed["comparison"]["against"]["e2e_cel"]
        against["learned_vote"] = against["stacking"]
    pages.mkdir()
    left_by(pages / "a", found)
    left_by(pages / "b", made_results({}, "mnist"))
    write_pages(pages)
    assert rows_of(tmp_path / "results.md") == {
        "digits, preset quick": {
            "seeds": "2",
            "e2e-CEL": "91.00 ± 1.41",
            "paper's e2e-CEL": "80.00",
            "e2e-CEL minus UA": "+41.00",
            "paper's lead": "+25.00",
            "k": "2, 3 of 6",
            "best other rule": "logistic stacking 84.00 ± 1.41",
            "e2e-CEL by Eq. 7": "50.00 ± 0.00",
            "learned vote of few": "92.00 ± 1.41",
            "single network": "95.00 ± 0.00",
        },
        "mnist, preset quick": {
            "seeds": "2",
            "e2e-CEL": "75.00 ± 0.00",
            "paper's e2e-CEL": "-",
            "e2e-CEL minus UA": "+25.00",
            "paper's lead": "-",
            "k": "2, 3 of 6",
            "best other rule": "SL 50.00 ± 0.00",
            "e2e-CEL by Eq. 7": "50.00 ± 0.00",
            "learned vote of few": "-",
            "single network": "50.00 ± 0.00",
        },
    }


def test_the_first_table_has_the_controls_in_their_order(tmp_path: Path) -> None:
    pages, found = tmp_path / "results", made_results({})
    for seed, (constant, lead) in zip(found["seeds"], [(0.90, 0.02), (0.92, 0.04)], strict=True):
        comparison = seed["comparison"]
        rules, against = comparison["rules"], comparison["against"]["e2e_cel"]
        control = {"title": "constant control", "accuracy": constant}
        rules["constant_control"] = rules["stacking"] | control
        against["constant_control"] = against["stacking"] | {"mean": lead}
    pages.mkdir()
    left_by(pages / "a", made_results({}, "mnist"))  # without a control
    left_by(pages / "b", found)
    write_pages(pages)
    rows = rows_of(tmp_path / "results.md", CONTROLS_TABLE)
    # t of one degree of freedom is 12.7062, the standard error 0.01.
    assert [*rows["digits, preset quick"].items()] == [
        ("seeds", "2"),
        ("e2e-CEL", "75.00 [75.00, 75.00]"),
        ("constant control", "91.00 [78.29, 103.71]"),
        ("gain from the learners", "+3.00 [-9.71, +15.71]"),
        ("single network", "50.00 [50.00, 50.00]"),
        ("logistic stacking", "50.00 [50.00, 50.00]"),
        ("UA", "50.00 [50.00, 50.00]"),
    ]
    assert "mnist, preset quick" not in rows
    assert {"mnist, preset quick", "digits, preset quick"} == set(rows_of(tmp_path / "results.md"))


def test_results_of_another_version_are_beside_those_of_this_one(tmp_path: Path) -> None:
    pages, earlier = tmp_path / "results", made_results({})
    for seed in earlier["seeds"]:
        seed["launch"]["versions"]["distcel"] = "0.0.1"
    pages.mkdir()
    left_by(pages / "digits-quick", made_results({}))
    left_by(pages / "digits-quick-0.0.1", earlier)
    write_pages(pages)
    titles = ["digits, preset quick", "digits, preset quick, distcel 0.0.1"]
    notes = ["Notes", "Notes, distcel 0.0.1"]
    assert headings(pages / "digits.md") == [*titles, *notes]
    assert [*rows_of(tmp_path / "results.md")] == titles


def test_what_is_written_by_hand_stays(tmp_path: Path) -> None:
    pages = tmp_path / "results"
    pages.mkdir()
    file = tmp_path / "results.md"
    (begin, end), (begin_all, end_all) = block(CONTROLS_TABLE), block(ALL_TABLE)
    blocks = (f"{begin}\n\nold\n\n{end}", f"{begin_all}\n\nold\n\n{end_all}")
    file.write_text("# Results\n\nBefore.\n\n{}\n\nBetween.\n\n{}\n\nAfter.\n".format(*blocks))
    left_by(pages / "a", made_results({}))
    write_pages(pages)
    text = file.read_text()
    assert text.startswith(f"# Results\n\nBefore.\n\n{begin}\n")
    assert f"{end}\n\nBetween.\n\n{begin_all}\n" in text
    assert text.endswith(f"{end_all}\n\nAfter.\n")
    assert "old" not in text
    write_pages(pages)
    assert file.read_text() == text
    file.write_text("# Results\n\nBy hand.\n")
    write_pages(pages)
    text = file.read_text()
    assert text.startswith(f"# Results\n\nBy hand.\n\n{begin}\n")
    assert text.endswith(f"{end_all}\n")
    write_pages(pages)
    assert file.read_text() == text


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"seeds": []}', "[]", '{"seeds": [{"launch": {}}]}', "lacking"]
)
def test_unusable_results_are_left_out_with_a_warning(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = tmp_path / "results"
    pages.mkdir()
    left_by(pages / "b", made_results({}))
    broken = left_by(pages / "a", made_results({}, "mnist"))
    if content == "lacking":  # a field of this version
        found = made_results({}, "mnist")
        del found["seeds"][0]["comparison"]["against"]
        content = json.dumps(found)
    (broken / "results.json").write_text(content)
    write_pages(pages)
    assert [*rows_of(tmp_path / "results.md")] == ["digits, preset quick"]
    assert not (pages / "mnist.md").exists()
    (message,) = caplog.messages
    assert str(broken) in message


def test_two_reproductions_that_end_at_once_are_both_in_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tmp_path / "results"
    folders = {
        dataset: left_by(tmp_path / dataset, made_results({}, dataset))
        for dataset in ("digits", "mnist")
    }
    second = Thread(target=add_reproduction, args=(pages, folders["mnist"], "mnist-quick"))
    read = results_page._reproductions

    def slowly(folder: Path) -> dict[str, Any]:
        found = read(folder)
        if second.ident is None:  # the first one has read the folder, and the second comes
            second.start()
            second.join(timeout=1)
        return found

    monkeypatch.setattr(results_page, "_reproductions", slowly)
    add_reproduction(pages, folders["digits"], "digits-quick")
    second.join()
    assert [*rows_of(tmp_path / "results.md")] == ["digits, preset quick", "mnist, preset quick"]


def test_a_reproduction_can_be_added_as_it_was_written(tmp_path: Path) -> None:
    write_reproduction(tmp_path / "report", made_results({}))
    add_reproduction(tmp_path / "results", tmp_path / "report", "digits-quick")
    for name in ("results.json", "figure2.svg", "pareto.svg"):
        copied = (tmp_path / "results" / "digits-quick" / name).read_bytes()
        assert copied == (tmp_path / "report" / name).read_bytes()


def test_the_projects_own_pages_are_generated_from_their_results(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = ROOT / "docs"
    shutil.copytree(docs / "results", tmp_path / "results", ignore=shutil.ignore_patterns("*.md"))
    shutil.copy(docs / "results.md", tmp_path)
    write_pages(tmp_path / "results")
    assert not caplog.messages
    pages = {path.name for path in (docs / "results").glob("*.md")}
    assert pages == {path.name for path in (tmp_path / "results").glob("*.md")}
    assert len(pages) > 3
    for name in ("results.md", *(f"results/{page}" for page in pages)):
        assert (tmp_path / name).read_text() == (docs / name).read_text(), name

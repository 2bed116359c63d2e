import re
from dataclasses import replace

import numpy as np

from distcel.evaluate.outcomes import cost_points
from distcel.evaluate.significance import Difference
from distcel.experiment.types import Published
from distcel.report.document import report
from distcel.rules.trained import EQ_7, TrainedRule
from tests.report.test_reproduction import FEMALE, LEARNED, NAMES, TEST, outcome, outcomes


def test_the_learned_vote_is_in_the_tables_where_every_seed_has_it() -> None:
    found = [outcome(seed, {1: 0.5, 2: 0.8}, {}, learned_k=seed + 1) for seed in (0, 1)]
    (point,) = (point for point in cost_points(found) if point.rule == LEARNED)
    # A net, 1 and 2 learners, and as many matrices of 4 x 4.
    assert point.multiply_adds == (1_500_000 + 16 + 2_000_000 + 32) / 2
    assert (point.k, point.accuracies, point.on_front) == (1.5, (0.5, 0.5), False)
    text = report("command", found, None)
    assert row(text, LEARNED, "Table 8") == ["1.5", "1.750", "50.00 ± 0.00", "-", "no"]
    chosen = ["6", "2", "0.1", "-", "0.02", "exact", "learned", "62.50"]
    assert row(text, f"seed 1, {LEARNED}", "Table 3") == chosen
    assert row(text, "rule", "Table 4")[-1] == f"{LEARNED} minus it"
    lead = "-25.00 [-40.00, -12.50] p 0.002"
    assert row(text, "e2e-CEL", f"Table 5b, the lead of {LEARNED}") == [lead, lead]

    one = [found[0], outcome(1, {1: 0.5, 2: 0.8}, {})]
    text = report("command", one, None)
    assert row(text, f"seed 0, {LEARNED}", "Table 3")[1] == "1"
    assert LEARNED not in text[text.index("Table 4") :]


def row(text: str, title: str, caption: str) -> list[str]:
    """The cells of a table's row, the table being the one below the caption."""
    parts = text[text.index(caption) :].split("\n\n")
    table = next(part for part in parts if part.startswith("|"))
    (line,) = (line for line in table.splitlines() if re.match(rf"\| {re.escape(title)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_the_tables_beyond_the_papers() -> None:
    text = report("command", outcomes(FEMALE), None)
    assert row(text, "e2e-CEL", "Table 4") == ["train", "75.00 ± 0.00", "17.50 ± 0.00", "-"]
    assert row(text, "UA", "Table 4")[:3] == ["-", "50.00 ± 0.00", "42.50 ± 0.00"]
    assert row(text, "oracle", "Table 4")[2] == "-"
    assert row(text, "logistic stacking", "Table 4")[3] == "+25.00 ± 0.00"
    lead = "+25.00 [+12.50, +40.00] p 0.002"
    assert row(text, "logistic stacking", "Table 5, the lead of e2e-CEL over") == [lead, lead]
    assert "Table 5b" not in text
    assert row(text, "rule", "Table 7") == ["cat", "dog", "a\\|b", "fish"]
    sizes = [str(count) for count in np.bincount(TEST.labels_S)]
    assert row(text, "samples", "Table 7") == sizes
    found = outcomes({})[0].comparison.measures.class_accuracy["UA"]
    assert row(text, "UA", "Table 7") == [f"{100 * found[name]:.2f}" for name in NAMES]
    assert row(text, "logistic stacking", "Table 8") == ["6", "3.000", "50.00 ± 0.00", "-", "no"]
    knees = [line for line in text.splitlines() if "yes, the knee" in line]
    assert len(knees) == 1
    assert "| 2.000 " in knees[0]
    on_front = [line for line in text.splitlines() if re.search(r"\| yes +\|$", line)]
    assert [re.findall(r"[\w-]+", line)[:3] for line in on_front] == [
        ["e2e-CEL", "1", "1"],
        ["e2e-CEL", "2", "2"],
        ["e2e-CEL", "6", "4"],
        ["nearest", "neighbours", "0"],
    ]
    assert row(text, "samples", "Table 9") == ["10"]
    assert row(text, "UA", "Table 9") == ["100.00"]


def test_the_papers_tables_have_its_numbers_and_the_difference() -> None:
    paper = Published(0.95, 0.3, 0.25, 0.8, 0.6, 0.55, 0.45, 0.5, k=2)
    text = report("command", outcomes({}), paper)
    table_1 = {name: row(text, name, "Table 1") for name in ("distcel", "paper", "difference")}
    assert table_1 == {
        "distcel": ["90.00 ± 0.00", "40.00 ± 0.00", "50.00 ± 0.00"],
        "paper": ["95.00", "30.00", "25.00"],
        "difference": ["-5.00", "+10.00", "+25.00"],
    }
    assert row(text, "distcel", "Table 2") == ["75.00 ± 0.00", *["50.00 ± 0.00"] * 4]
    assert row(text, "paper", "Table 2") == ["80.00", "60.00", "55.00", "45.00", "50.00"]
    assert row(text, "difference", "Table 2") == ["-5.00", "-10.00", "-5.00", "+5.00", "+0.00"]
    assert row(text, "paper", "Table 3")[:2] == ["6", "2"]


def test_the_report_says_what_rules_chose_on_valid() -> None:
    text = report("command", outcomes({}), None)
    assert row(text, "static top-k of its own k", "Table 6") == ["k", "4", "4"]


def test_the_report_says_what_all_trainings_took() -> None:
    text = report("command", outcomes({}), None)
    took = "base learners 2.0, refit 0.2, Figure 2 0.4."  # minutes of both seeds
    assert "took 2.6 minutes of one worker" in text
    assert took in text


def test_a_p_that_is_none_is_not_printed_as_0() -> None:
    (found, *_) = outcomes({})
    against = {"e2e-CEL": {"SL": Difference(0.1, 0.09, 0.11, 0.0)}}
    measures = replace(found.comparison.measures, against=against)
    found = replace(found, comparison=replace(found.comparison, measures=measures))
    text = report("command", [found], None)
    assert row(text, "SL", "Table 5, ") == ["+10.00 [+9.00, +11.00] p < 1e-12"]


def test_the_report_says_how_many_trials_and_samples_there_were() -> None:
    text = report("command", outcomes({}), None)
    assert "Samples: 300 train, 30 valid, 40 test." in text
    assert "Trials of each seed's search: 8, 9, the first at k = 5, epsilon = 0.1, the" in text


def test_fer2013s_private_test_is_said_by_itself() -> None:
    names = ("e2e_cel", "super_learner", "unweighted_average", "plurality_vote", "random_selection")
    private = [dict.fromkeys(names, 0.5) | {"e2e_cel": accuracy} for accuracy in (0.6, 0.7)]
    both = [
        replace(found, results={**found.results, "private_test_accuracy": of_seed})
        for found, of_seed in zip(outcomes({}), private, strict=True)
    ]
    text = report("command", both, None)
    assert "On PrivateTest alone: e2e-CEL 65.00 ± 7.07, SL 50.00 ± 0.00, UA" in text
    assert "PrivateTest" not in report("command", outcomes({}), None)


def test_the_report_says_of_what_code_it_is() -> None:
    first, *_ = outcomes({})
    text = report("command", [first], None)
    assert text.endswith(" torch 2; commit 0123abc, changed.\n")
    installed = replace(first, results={**first.results, "commit": None})
    text = report("command", [first, installed], None)
    assert text.endswith(" torch 2; commit 0123abc, changed and unknown.\n")


def test_the_notes_are_of_the_rules_that_are_there() -> None:
    def trained(**lrs: float) -> str:
        (found, *_) = outcomes({})
        rules = {
            title.replace("_", " "): TrainedRule(np.zeros((1, 1), np.float32), 0.5, lr, 1, 1, 1.0)
            for title, lr in lrs.items()
        }
        comparison = replace(found.comparison, trained=rules)
        return report("command", [replace(found, comparison=comparison)], None)

    eq_7, beyond = "is e2e-CEL at the first trial's", "A single network has"
    lrs, what = "of a few learning rates", "learning rate (accuracy on valid)"
    assert [part in trained() for part in (eq_7, beyond, lrs)] == [False, False, False]
    text = trained(**{EQ_7: 0.25})
    assert [part in text for part in (eq_7, beyond, lrs)] == [True, False, True]
    assert row(text, EQ_7, "Table 6") == [what, "0.25 (50.00)"]
    text = trained(single_network=0.5, soft_gating=0.125)
    assert [part in text for part in (eq_7, beyond, lrs)] == [False, True, True]
    assert row(text, "single network", "Table 6") == [what, "0.5 (50.00)"]
    assert row(text, "soft gating", "Table 6") == [what, "0.125 (50.00)"]


def test_the_notes_say_what_samples_the_rules_are_fitted_on() -> None:
    seen, held_out = "were trained on; by their definition", "has valid alone here too"
    for split, expected in (("train", [True, False]), ("crossfit", [False, True])):
        (found, *_) = outcomes({})
        text = report(
            "c", [replace(found, results={**found.results, "selector_split": split})], None
        )
        assert [part in text for part in (seen, held_out)] == expected


def test_the_report_says_what_other_choices_of_k_would_have_given() -> None:
    text = report("command", outcomes({}), None)
    on_valid = "on its valid split, it would have been 2, 3, and e2e-CEL 80.00 ± 0.00 on test."
    assert on_valid in text
    on_test = "on the test split, as the authors' code does, it would have been 5, 4, and e2e-CEL"
    assert f"{on_test} 94.50 ± 6.36" in text


def test_the_report_says_what_diverged_and_in_which_seeds() -> None:
    found = outcomes({})
    assert "Diverged" not in report("command", found, None)
    both = "single network"
    lacking = [
        replace(seed, comparison=replace(seed.comparison, diverged=titles))
        for seed, titles in zip(found, ([both], [both, "e2e-CEL, k = 3"]), strict=True)
    ]
    text = report("command", lacking, None)
    titles = "single network (seed 0, 1); e2e-CEL, k = 3 (seed 1)"
    assert f"Diverged, and so left out of the tables and Figure 2: {titles}." in text


def test_the_rules_of_a_holdout_are_fitted_on_it() -> None:
    found = [replace(o, results={**o.results, "selector_split": "holdout"}) for o in outcomes({})]
    text = report("command", found, None)
    assert "valid has valid alone" in text
    assert "valid has valid alone" not in report("command", outcomes({}), None)
    assert row(text, "SL", "Table 4")[0] == "held-out fifth"
    assert row(text, "UA", "Table 4")[0] == "-"


def test_the_report_says_how_many_duplicates_were_left_out() -> None:
    text = report("command", outcomes({}), None)
    assert "Left out of train and valid, their image being there twice or in test: 0, 5." in text


def test_the_report_says_that_a_seed_was_searched_on_after_its_test() -> None:
    first, second = outcomes({})
    second = replace(second, results={**second.results, "test_read_after": [8, 16]})
    assert "been read" not in report("command", [first], None)
    text = report("command", [first, second], None)
    assert "Trials were added when the test split had been read: seed 1 after 8." in text


def test_a_data_set_without_slices_has_no_table_of_them() -> None:
    assert "Table 9" not in report("command", outcomes({}), None)

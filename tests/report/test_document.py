import re
from typing import Any

import numpy as np
import pytest

from distcel.report.document import launch_report, launch_tables, reproduction_report
from distcel.report.gradients import accuracy_within
from distcel.report.notes import of_precision
from distcel.report.sentences import reproduction_result
from distcel.rules.registry import PAPER_RULES
from tests.report.made_results import (
    FEMALE,
    LEARNED,
    NAMES,
    PAPER,
    TEST,
    made_results,
    made_seed,
    one_seed,
    training,
)


def test_the_learned_vote_is_in_the_tables_where_every_seed_has_it() -> None:
    found = [made_seed(seed, {1: 0.5, 2: 0.8}, {}, learned_k=seed + 1) for seed in (0, 1)]
    text = reproduction_report({"command": "command", "seeds": found})
    assert row(text, LEARNED, "Table 8") == ["1.5", "1.750", "50.00 ± 0.00", "-", "no"]
    chosen = ["6", "2", "0.1", "-", "0.02", "exact", "learned", "62.50"]
    assert row(text, f"seed 1, {LEARNED}", "Table 3") == chosen
    assert row(text, "rule", "Table 4")[-1] == f"{LEARNED} minus it"
    # Holm's: of 15 p's, this one alone is not 1, so that it counts 15 times.
    lead = "-25.00 [-40.00, -12.50] p 0.029"
    over = ["-25.00 [-25.00, -25.00]", "below"]
    assert row(text, "e2e-CEL", f"Table 5b, the lead of {LEARNED}") == [lead, lead, *over]
    over = ["+0.00 [+0.00, +0.00]", "level"]
    assert row(text, "UA", f"Table 5b, the lead of {LEARNED}")[2:] == over

    one = [found[0], made_seed(1, {1: 0.5, 2: 0.8}, {})]
    text = reproduction_report({"command": "command", "seeds": one})
    assert row(text, f"seed 0, {LEARNED}", "Table 3")[1] == "1"
    assert LEARNED not in text[text.index("Table 4") : text.index("## Notes")]


def row(text: str, title: str, caption: str) -> list[str]:
    """The cells of a table's row, the table being the one below the caption."""
    parts = text[text.index(caption) :].split("\n\n")
    table = next(part for part in parts if part.startswith("|"))
    (line,) = (line for line in table.splitlines() if re.match(rf"\| {re.escape(title)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_the_tables_beyond_the_papers() -> None:
    text = reproduction_report(made_results(FEMALE))
    assert row(text, "e2e-CEL", "Table 4") == ["train", "75.00 ± 0.00", "17.50 ± 0.00", "-"]
    assert row(text, "UA", "Table 4")[:3] == ["-", "50.00 ± 0.00", "42.50 ± 0.00"]
    assert row(text, "oracle", "Table 4")[2] == "-"
    assert row(text, "logistic stacking", "Table 4")[3] == "+25.00 ± 0.00"
    # Holm's: the 14 rules have the same p.
    lead, over = "+25.00 [+12.50, +40.00] p 0.027", ["+25.00 [+25.00, +25.00]", "above"]
    assert row(text, "logistic stacking", "Table 5, the lead of e2e-CEL over") == [
        lead,
        lead,
        *over,
    ]
    assert "Table 5b" not in text
    assert row(text, "rule", "Table 7") == ["cat", "dog", "a\\|b\\nc", "fish"]
    sizes = [str(count) for count in np.bincount(TEST.labels_S)]
    assert row(text, "samples", "Table 7") == sizes
    found = made_results({})["seeds"][0]["comparison"]["rules"]["unweighted_average"][
        "class_accuracy"
    ]
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
    found = made_results({})
    for seed in found["seeds"]:
        seed["launch"]["paper"] = PAPER
    text = reproduction_report(found)
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
    text = reproduction_report(made_results({}))
    assert row(text, "static top-k of its own k", "Table 6") == ["k", "4", "4"]


def test_the_report_says_what_all_trainings_took() -> None:
    text = reproduction_report(made_results({}))
    took = "base learners 2.0, refit 0.2, figure 2 0.4."  # minutes of both seeds
    assert "took 2.6 minutes of one worker" in text
    assert took in text


def test_a_p_that_is_none_is_not_printed_as_0() -> None:
    found = one_seed()
    lead = {"mean": 0.1, "low": 0.09, "high": 0.11, "p": 0.0}
    found["seeds"][0]["comparison"]["against"] = {"e2e_cel": {"super_learner": lead}}
    text = reproduction_report(found)
    assert row(text, "SL", "Table 5, ") == [
        "+10.00 [+9.00, +11.00] p < 1e-12",
        "+10.00",
        "-",
    ]


def test_the_report_says_how_many_trials_and_samples_there_were() -> None:
    text = reproduction_report(made_results({}))
    assert "Samples: 300 train, 30 valid, 40 test." in text
    assert "Trials of each seed's search: 8, 9, the first at k = 5, epsilon = 0.1." in text


def test_fer2013s_private_test_has_a_row_of_its_own() -> None:
    found = made_results({})
    for seed, accuracy in zip(found["seeds"], (0.6, 0.7), strict=True):
        rules = dict.fromkeys(PAPER_RULES, 0.5) | {"e2e_cel": accuracy}
        own = {"n_samples": 20, "accuracy": rules, "specialised": 0.5}
        seed["launch"]["private_test"] = own | {"complementary": None, "overall": 0.25}
    text, title = reproduction_report(found), "distcel, PrivateTest alone (20)"
    assert row(text, title, "Table 2")[:2] == ["65.00 ± 7.07", "50.00 ± 0.00"]
    assert row(text, title, "Table 1") == ["50.00 ± 0.00", "-", "25.00 ± 0.00"]
    assert "PrivateTest" not in reproduction_report(made_results({}))


def test_the_report_names_the_code_it_is_from() -> None:
    found = one_seed()
    end = reproduction_report(found).partition("\n\n## Notes")[0]
    assert end.endswith(" torch 2; commit 0123abc, changed.")
    installed = one_seed()["seeds"][0]
    installed["launch"]["commit"] = None
    found["seeds"].append(installed)
    end = reproduction_report(found).partition("\n\n## Notes")[0]
    assert end.endswith(" torch 2; commit 0123abc, changed and unknown.")


def test_the_notes_are_of_the_rules_that_are_shown() -> None:
    def text(**lrs: float) -> str:
        found = one_seed()
        rules = found["seeds"][0]["comparison"]["rules"]
        for key in ("e2e_cel_eq_7", "single_network", "soft_gating"):
            if key in lrs:
                rules[key]["training"] = training(lrs[key])
            else:
                del rules[key]
        return reproduction_report(found)

    eq_7, single = "the smart ensemble at the first trial's", "but seeing as many samples"
    lrs, what = "of a few learning rates", "learning rate (accuracy on valid)"
    assert [part in text() for part in (eq_7, single, lrs)] == [False, False, False]
    found = text(e2e_cel_eq_7=0.25)
    assert [part in found for part in (eq_7, single, lrs)] == [True, False, True]
    assert row(found, "e2e-CEL by Eq. 7", "Table 6") == [what, "0.25 (50.00)"]
    found = text(single_network=0.5, soft_gating=0.125)
    assert [part in found for part in (eq_7, single, lrs)] == [False, True, True]
    assert row(found, "single network", "Table 6") == [what, "0.5 (50.00)"]
    assert row(found, "soft gating", "Table 6") == [what, "0.125 (50.00)"]


def with_split(split: str) -> str:
    found = made_results({})
    for seed in found["seeds"]:
        seed["launch"]["selector_split"] = split
    return reproduction_report(found)


def test_the_notes_say_what_samples_the_rules_are_fitted_on() -> None:
    seen, held_out = "base learners were trained on. By their", "has valid alone here too"
    for split, expected in (("train", [True, False]), ("crossfit", [False, True])):
        assert [part in with_split(split) for part in (seen, held_out)] == expected


def test_the_notes_say_that_one_net_was_trained_for_every_k() -> None:
    found, note = one_seed(), "- k: one selection net is trained for every k"
    assert note not in reproduction_report(found)
    found["seeds"][0]["launch"]["valid_accuracy_over_k"] = [0.5, 0.75]
    assert note in reproduction_report(found)


def test_the_report_says_what_other_choices_of_k_would_have_given() -> None:
    text = reproduction_report(made_results({}))
    on_valid = "on its valid split, it would have been 2, 3, and e2e-CEL 80.00 ± 0.00 on test."
    assert on_valid in text
    on_test = "on the test split, as the authors' code does, it would have been 5, 4, and e2e-CEL"
    assert f"{on_test} 94.50 ± 6.36" in text


def test_the_report_says_what_diverged_and_in_which_seeds() -> None:
    found = made_results({})
    assert "Diverged" not in reproduction_report(found)
    both = "single network"
    for seed, titles in zip(found["seeds"], ([both], [both, "e2e-CEL, k = 3"]), strict=True):
        seed["comparison"]["diverged"] = titles
    listed = "single network (seed 0, 1); e2e-CEL, k = 3 (seed 1)"
    line = f"Diverged, and so left out of the tables and Figure 2: {listed}."
    assert line in reproduction_report(found)


def test_a_rule_that_diverged_in_one_seed_is_in_no_table_of_all() -> None:
    found = made_results({})
    del found["seeds"][1]["comparison"]["rules"]["soft_gating"]
    text = reproduction_report(found)
    assert "soft gating" not in text[: text.index("## Notes")]


def test_the_rules_of_a_holdout_are_fitted_on_it() -> None:
    text = with_split("holdout")
    assert row(text, "SL", "Table 4")[0] == "held-out fifth"
    assert row(text, "UA", "Table 4")[0] == "-"
    assert row(reproduction_report(made_results({})), "SL", "Table 4")[0] == "train"


def test_the_report_says_how_many_duplicates_were_left_out() -> None:
    text = reproduction_report(made_results({}))
    assert "Left out of train and valid, their image occurring twice or in test: 0, 5." in text


def test_the_report_says_that_a_seed_was_searched_on_after_its_test() -> None:
    found = made_results({})
    assert "been read" not in reproduction_report(found)
    found["seeds"][1]["launch"]["test_read_after"] = [8, 16]
    text = reproduction_report(found)
    assert "Trials were added when the test split had been read: seed 1 after 8." in text


def test_a_data_set_without_slices_has_no_table_of_them() -> None:
    assert "Table 9" not in reproduction_report(made_results({}))


def test_the_gradients_are_set_side_by_side() -> None:
    def run(title: str, seconds: float, accuracies: list[float], test: float) -> dict[str, Any]:
        epochs = [{"seconds": seconds, "valid_accuracy": accuracy} for accuracy in accuracies]
        return {"title": title, "epochs": epochs, "test_accuracy": test}

    found = made_results({})
    assert "side by side" not in reproduction_report(found)
    slow, first, second = "paper, m = 1,000", *(s["comparison"] for s in found["seeds"])
    first["gradients"] = [
        run(slow, 2.0, [0.5, 0.7, 0.9], 0.8),
        run("exact", 1.5, [0.4, 0.5, 0.6], 0.55),
    ]
    second["gradients"] = [
        run(slow, 4.0, [0.6, 0.6, 0.7], 0.6),
        run("exact", 1.0, [0.4, 0.5, 0.8], 0.65),
    ]
    text, caption = reproduction_report(found), "The knapsack layer's gradients"
    # Within 4.5 s the slow one ended two epochs of the first seed; within 3 s none of the second.
    expected = ["80.00 ± 14.14", "70.00 ± 14.14", "3.00 ± 1.41", "70.00 (1)"]
    assert row(text, slow, caption) == expected
    expected = ["70.00 ± 14.14", "60.00 ± 7.07", "1.25 ± 0.35", "70.00 ± 14.14"]
    assert row(text, "exact", caption) == expected
    assert "after 3 epochs of each" in text

    del second["gradients"][0]  # it diverged
    assert row(reproduction_report(found), slow, caption)[0] == "90.00 (1)"


@pytest.mark.parametrize(
    ("ended_at", "accuracy"), [(1.9, None), (2.0, 0.5), (5.9, 0.7), (6.0, 0.6), (99.0, 0.6)]
)
def test_accuracy_within_a_time_counts_epochs_that_ended_in_it(
    ended_at: float, accuracy: float | None
) -> None:
    epochs = [{"seconds": 2.0, "valid_accuracy": reached} for reached in (0.5, 0.7, 0.6)]
    assert accuracy_within({"epochs": epochs}, ended_at) == accuracy


def test_a_launchs_report_has_our_numbers_beside_the_papers() -> None:
    found = one_seed()["seeds"][0]["launch"] | {"paper": PAPER, "specialised": 0.98765}
    found["accuracy"]["e2e_cel"] = 0.91234
    text = launch_report(found)
    assert text.startswith("# digits, preset quick, seed 0\n\nAccuracy in % on the 40 samples")
    assert "been read" not in text
    again = launch_report(found | {"test_read_after": [8, 12, 16]})
    assert "been read: digits, preset quick, seed 0 after 8, 12." in again
    assert found["note"] in text
    assert row(text, "distcel", "Table 1") == ["98.77", "40.00", "50.00"]
    assert row(text, "paper", "Table 1") == ["95.00", "30.00", "25.00"]
    assert row(text, "distcel", "Table 2") == ["91.23", *["50.00"] * 4, "100.00"]
    assert row(text, "paper", "Table 2") == ["80.00", "60.00", "55.00", "45.00", "50.00", "-"]
    assert row(text, "difference", "Table 2")[0] == "+11.23"
    point = ["6", "2", "0.123", "-", "0.5", "exact", "sum", "70.00"]
    assert row(text, "distcel", "Table 3") == point
    assert row(text, "paper", "Table 3")[:2] == ["6", "2"]
    assert launch_tables(found) == text.partition("\n\n")[2]
    assert "bfloat16" not in text
    lower = {"precision": {"base_learners": "bfloat16", "selection_net": "bfloat16"}}
    sentence = "Trained in bfloat16, measured in float32: base learners and selection net. "
    assert sentence in launch_report(found | lower)
    full = {"precision": dict.fromkeys(lower["precision"], "float32")}
    assert launch_report(found | full) == text
    assert "not all trained in the same precision" in of_precision([found | lower, found | full])
    split = {"selector_split": "holdout", "fixed": {"m": 2}}
    title = "digits, preset quick, selector split holdout, m = 2, seed 0"
    assert launch_report(found | split).startswith(f"# {title}\n")


def test_the_report_begins_with_the_controls_and_the_gain_from_the_learners() -> None:
    found = made_results({})
    for seed, lead in zip(found["seeds"], (0.02, 0.04), strict=True):
        comparison = seed["comparison"]
        against = comparison["against"]["e2e_cel"]
        for key in ("constant_control", "shuffled_control"):
            comparison["rules"][key] = comparison["rules"]["stacking"] | {"title": key}
            against[key] = against["stacking"] | {"mean": lead}
    text = reproduction_report(found)
    assert text.index("In short:") < text.index("Table 1")
    expected = ["50.00 [50.00, 50.00]", "+3.00 [-9.71, +15.71]", "not told apart"]
    assert row(text, "constant_control", "In short:") == expected
    assert row(text, "gain from the learners", "In short:") == [expected[1], "-", "-"]
    assert "- Gain from the learners: " in text
    assert "Gain from the learners" not in reproduction_report(made_results({}))
    gain = "the gain from the learners is +3.00 [-9.71, +15.71] percentage points"
    assert f"; {gain}. In brackets" in reproduction_result(found)
    for seed in found["seeds"]:
        rules = seed["comparison"]["rules"]
        rules["brief_single_network"] = rules["stacking"] | {"title": "one network"}
    alone = "one network has 50.00 [50.00, 50.00] %"
    assert f"; {gain}, and {alone}. In brackets" in reproduction_result(found)


def test_the_report_has_the_calibration_at_each_k_before_and_after_the_temperature() -> None:
    assert "Calibration of" not in (plain := reproduction_report(made_results({})))
    assert "- Temperature: " not in plain
    found = made_results({})
    for seed, temperature in zip(found["seeds"], (0.2, 0.4), strict=True):
        for point in seed["comparison"]["over_k"]:
            before, after = (
                {"calibration_error": error, "negative_log_likelihood": error / 2}
                for error in (0.3, 0.02)
            )
            point["calibration"] = {"temperature": temperature, "before": before, "after": after}
    text = reproduction_report(found)
    expected = ["0.30 ± 0.14", "30.00 ± 0.00", "2.00 ± 0.00", "0.15 ± 0.00", "0.01 ± 0.00"]
    assert row(text, "2", "Calibration of e2e-CEL at each k") == expected
    assert "- Temperature: " in text


def test_the_report_says_how_often_the_test_split_was_read() -> None:
    found = made_results({})
    assert "has been read" not in reproduction_report(found)
    for i, seed in enumerate(found["seeds"]):
        seed["launch"]["test_readings"] = 1 + 2 * i
        seed["comparison"]["test_readings"] = 2 + 2 * i
    assert "The test split has been read 4 times by the runs" in reproduction_report(found)
    for seed in found["seeds"]:
        seed["launch"]["test_readings"] = seed["comparison"]["test_readings"] = 1
    assert "The test split has been read once by the" in reproduction_report(found)

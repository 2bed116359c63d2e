from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import SelectionParams
from distcel.search.trials import TrialRecord, TrialStore, best_trial, first_params
from distcel.storage.files import write_record
from distcel.train.checkpoint import EpochResult

PARAMS = SelectionParams(k=3, epsilon=0.1, m=10, lr=1 / 3, gradient="exact")
WORKER = {"node": "here", "torch": "2.14.1"}


def epoch(number: int, valid_accuracy: float) -> EpochResult:
    return EpochResult(number, 1.5, 1.25, valid_accuracy, 0.125, 1_800_000_000_000)


def finished(number: int, valid_accuracy: float) -> TrialRecord:
    return TrialRecord(number, PARAMS, "COMPLETE", (epoch(1, valid_accuracy),))


def test_a_finished_trial_is_read_back_as_it_was(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.keep(TrialRecord(0, PARAMS, "RUNNING"))
    store.add_epoch(0, epoch(1, 0.5), WORKER, 9)
    store.add_epoch(0, epoch(2, 0.75), WORKER, 9)
    store.keep(replace(store[0], state="COMPLETE"))
    store.keep(TrialRecord(1, PARAMS, "RUNNING"))
    store.keep(replace(store[1], state="FAILED", reason="loss became nan"))
    again = TrialStore(tmp_path)
    assert again.snapshot() == store.snapshot() == again.finished()
    assert again[0].valid_accuracy == 0.75
    assert again.seconds == 2 * 0.125
    assert again.next_number() == 2


def test_a_trial_that_begins_again_has_each_epoch_once(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.keep(TrialRecord(0, PARAMS, "RUNNING"))
    for number, accuracy in ((1, 0.1), (2, 0.2), (1, 0.1), (2, 0.25), (3, 0.3)):
        store.add_epoch(0, epoch(number, accuracy), WORKER, 9)
    assert [e.valid_accuracy for e in store[0].epochs] == [0.1, 0.25, 0.3]


def test_a_running_trial_of_a_killed_launch_is_interrupted_and_without_epochs(
    tmp_path: Path,
) -> None:
    store = TrialStore(tmp_path)
    store.keep(TrialRecord(0, PARAMS, "RUNNING"))
    store.add_epoch(0, epoch(1, 0.5), WORKER, 9)
    again = TrialStore(tmp_path)
    assert again.running() == [TrialRecord(0, PARAMS, "RUNNING")]
    assert again[0] == TrialRecord(0, PARAMS, "RUNNING")
    assert again.finished() == []


def test_a_search_keeps_its_first_trial_when_another_is_planned(tmp_path: Path) -> None:
    planned = replace(PARAMS, m=PARAMS.m + 1)
    store = TrialStore(tmp_path)
    store.keep(finished(1, 0.5))
    assert first_params([], planned) == first_params(store.snapshot(), planned) == planned
    store.keep(finished(0, 0.5))
    assert first_params(store.snapshot(), planned) == PARAMS


def test_a_damaged_record_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TrialStore(tmp_path).keep(finished(1, 0.25))
    TrialStore(tmp_path).keep(finished(0, 0.5))
    path = tmp_path / "00000.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    assert TrialStore(tmp_path).snapshot() == [finished(1, 0.25)]
    assert "00000.json is damaged" in caplog.text
    assert (tmp_path / "00000.json.damaged").exists()
    assert TrialStore(tmp_path).snapshot() == [finished(1, 0.25)]
    (tmp_path / "00009.json.damaged").touch()
    assert TrialStore(tmp_path).next_number() == 10  # no other trial takes a lost one's number


def test_an_intact_record_of_no_valid_trial_is_put_aside(tmp_path: Path) -> None:
    good = asdict(finished(0, 0.5))
    changes: tuple[dict[str, object], ...] = (
        {"state": "WON"},
        {"epochs": []},
        {"epochs": [good["epochs"][0] | {"epoch": 2}]},
        {"epochs": [good["epochs"][0] | {"valid_accuracy": 1.01}]},
        {"params": good["params"] | {"k": 0}},
        {"note": "unknown"},
        {"number": 5},
        {"number": True},
        {"reason": None},
    )
    for number, change in enumerate(changes):
        write_record(tmp_path / f"{number:05d}.json", good | {"number": number} | change)
    write_record(tmp_path / "00009.json", good | {"number": 9})
    assert [record.number for record in TrialStore(tmp_path).snapshot()] == [9]
    assert len(list(tmp_path.glob("*.damaged"))) == len(changes)


def test_a_closed_search_wants_no_more_unless_num_samples_is_raised(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    assert store.wanted(8) == 8
    assert store.closed_after() == []
    store.keep(finished(0, 0.5))
    store.keep(TrialRecord(1, PARAMS, "RUNNING"))
    store.close(8)  # a time budget ended it with one trial
    again = TrialStore(tmp_path)
    assert again.snapshot() == store.snapshot()
    assert [again.wanted(number) for number in (1, 8, 9)] == [1, 1, 9]
    again.keep(finished(2, 0.5))  # it has two of nine
    again.close(9)
    assert [TrialStore(tmp_path).wanted(number) for number in (8, 9, 10)] == [2, 2, 10]
    again.close(1)  # a lower number does not replace it
    assert [TrialStore(tmp_path).wanted(number) for number in (1, 9, 10)] == [1, 2, 10]
    again.close(10)  # its time budget ended before another trial
    assert TrialStore(tmp_path).closed_after() == [1, 2]


def test_a_trial_in_place_of_a_damaged_one_is_an_addition(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    for number in (0, 1):
        store.keep(finished(number, 0.5))
    store.close(2)
    (tmp_path / "00001.json").write_text("{}")
    again = TrialStore(tmp_path)
    again.keep(finished(again.next_number(), 0.5))
    again.close(2)
    assert TrialStore(tmp_path).closed_after() == [2, 2]


@pytest.mark.parametrize(
    "record",
    [{}, {"asked": 8, "finished": 1}, {"closings": []}, {"closings": [{}]}, {"closings": [8]}],
)
def test_a_search_stays_closed_if_the_file_of_closings_is_damaged(
    record: dict[str, object], tmp_path: Path
) -> None:
    store = TrialStore(tmp_path)
    store.keep(finished(0, 0.5))
    store.close(8)
    write_record(tmp_path / "closed", record)
    damaged = TrialStore(tmp_path)
    assert damaged.closed_after() == []
    assert (tmp_path / "closed.damaged").exists()
    assert TrialStore(tmp_path).wanted(8) == 1  # also where that launch was killed
    assert TrialStore(tmp_path).closed_after() == [1]


def test_the_best_is_the_highest_and_the_earliest_of_equals() -> None:
    failed = replace(finished(0, 0.99), state="FAILED", reason="nan")
    running = replace(finished(1, 0.98), state="RUNNING")
    records = [failed, running, finished(2, 0.5), finished(3, 0.7), finished(4, 0.7)]
    assert best_trial(records).number == 3
    with pytest.raises(RunFailedError, match="no trial of the search is complete: nan"):
        best_trial([failed, running])

import pytest

from distcel.tracking.track import experiment_name


def test_the_experiment_is_the_variable_s_or_else_the_data_set_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert experiment_name("digits") == "distcel digits"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert experiment_name("digits") == "ours"

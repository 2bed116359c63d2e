from pathlib import Path

import pytest

from distcel.experiment.errors import InvalidInputError
from distcel.search.options import choose, tracking_uri

RUN_DIR = Path("/runs/run")
VARIABLES = r"without user name and password, .* MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSW"


def test_a_given_uri_wins_over_the_variable_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tracking_uri(None, RUN_DIR) == "sqlite:////runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://variable:5000")
    assert tracking_uri(None, RUN_DIR) == "http://variable:5000"
    assert choose("digits", run_dir=RUN_DIR)[1].mlflow_uri == "http://variable:5000"
    assert tracking_uri("http://given:5000", RUN_DIR) == "http://given:5000"
    assert tracking_uri("none", RUN_DIR) == "none"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(None, RUN_DIR) == "sqlite:////runs/mlflow.db"


def test_a_variable_that_is_unusable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(InvalidInputError, match="expected an MLFLOW_TRACKING_URI beginning with"):
        tracking_uri(None, RUN_DIR)
    assert tracking_uri("none", RUN_DIR) == "none"


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://me:hunter2@host:5000", VARIABLES),
        ("https://hunter2@host/path", VARIABLES),
        ("http://me:hunt/er2@host", VARIABLES),
        ("postgresql://me:hunter2@host/mlflow", "set MLFLOW_TRACKING_URI to it and leave the flag"),
        (
            "postgresql://host/db?user=me&password=hunter2",
            "set MLFLOW_TRACKING_URI to it and leave",
        ),
        ("mysql+pymysql://me:hun/ter2@host/db", "set MLFLOW_TRACKING_URI to it and leave the flag"),
    ],
)
def test_a_password_belongs_into_the_environment(
    uri: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match=remedy) as caught:
        choose("digits", mlflow_uri=uri)
    assert "hunt" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri(None, RUN_DIR) == uri


@pytest.mark.parametrize(
    "uri", ["postgresql://me@host:5432/mlflow", "sqlite:////home/a:b/me@work/m.db", "http://host:5"]
)
def test_a_uri_without_a_password_is_taken(uri: str) -> None:
    assert tracking_uri(uri, RUN_DIR) == uri

"""Settings of a TOML file, as `--config` has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.learner_sets import Clients
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment

ALL = """
image_size = 96
k = "searched"
num_samples = 5
valid_share = 0.2
learner_sets = "singles"
architecture = { family = "resnet9", channels = [8, 16, 32, 64] }

[learner_recipe]
epochs = 20
augmentation = "flip"
"""


def configured(folder: Path, text: str) -> Experiment:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_experiment("folder", "quick", path)


def test_settings_replace_those_of_the_preset(tmp_path: Path) -> None:
    preset, mine = load_experiment("folder", "quick"), configured(tmp_path, ALL)
    assert (mine.image_size, mine.k, mine.num_samples, mine.valid_share) == (96, "searched", 5, 0.2)
    assert mine.architecture == Architecture("resnet9", (8, 16, 32, 64))
    assert mine.learner_sets == "singles"
    assert (mine.learner_recipe.epochs, mine.learner_recipe.augmentation) == (20, "flip")
    assert mine.learner_recipe.lr == preset.learner_recipe.lr
    assert mine.selector_recipe == preset.selector_recipe
    assert mine.note.startswith(preset.note)
    assert "learner_recipe.epochs = 20, learner_recipe.augmentation = 'flip'" in mine.note


def test_learner_sets_are_groups_or_clients(tmp_path: Path) -> None:
    groups = configured(tmp_path, 'learner_sets = [["cat"], ["cat", "dog"]]')
    assert groups.learner_sets == (("cat",), ("cat", "dog"))
    clients = configured(tmp_path, "[learner_sets.dirichlet]\nn = 4\nalpha = 0.5")
    assert clients.learner_sets == Clients(4, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagesize = 96", "expected keys among .*, but got \\['imagesize'\\]: correct or remove"),
        ("dataset = 'mnist'", "but got \\['dataset'\\]"),
        ("learner_recipe.epoch = 3", "keys of learner_recipe among .*but got \\['epoch'\\]"),
        ("learner_recipe.epochs = 2.5", "a whole number epochs >= 1, but got 2.5"),
        ("learner_recipe.lr = '0.1'", "0 < lr < infinity, but got '0.1'"),
        ("learner_recipe = 3", "a table as learner_recipe, but got 3"),
        ("image_size = 0", "a whole number image_size >= 1, but got 0"),
        ("max_samples = 0", "a whole number max_samples >= 1, but got 0"),
        ("valid_share = '0.2'", "0 < valid_share < 1, but got '0.2'"),
        ("k = 5", "k in \\('any', 'searched'\\), but got 5: choose one of these, or fix k"),
        ("architecture.family = 'vgg'", "family in"),
        ("architecture.channels = [3, 4]", "family in"),
        ("architecture = { family = 'lenet', channels = 6 }", "a list as channels, but got 6"),
        ("architecture = { family = 'lenet', channels = [6] }", "2 channel widths for lenet"),
        ("architecture = 'lenet'", "a table as architecture"),
        ("learner_sets.clients.n = 3", "keys of learner_sets among"),
        ("learner_sets = {}", "a table as learner_sets.dirichlet, but got None"),
        ("learner_sets.dirichlet.n = 3", "add \\['alpha'\\]"),
        ("image_size: 96", "a readable TOML file as config, but got '.*mine.toml' \\(Expected"),
    ],
)
def test_what_is_wrong_is_named_in_one_line_with_the_file(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        configured(tmp_path, text)
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        load_experiment("folder", config=tmp_path / "none.toml")

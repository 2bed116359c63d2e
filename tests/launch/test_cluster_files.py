"""The files for clusters: their commands are parsed, their fields are those of the schemas."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import ray
import yaml
from ray.scripts.scripts import cli as ray_cli

from distcel.cli.main import parser, script_parser
from tests.docs.markdown import blocks

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
VARIABLES = {"SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "16", "HEAD_ADDRESS": "node1:20001"}


def documents(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((LAUNCH / name).read_text())]


def require_parsed(words: list[str]) -> None:
    """Parse a command of distcel or Ray, and the command after `--`, with its own parser.

    Raises:
        SystemExit, click.ClickException: the command has an error.
    """
    program, own = Path(words[0]).name, words[1:]
    if program == "distcel":
        parser().parse_args(own)
    elif program.startswith("python"):
        command = {"launch/cluster.py": "search", "launch/reproduce.py": "reproduce"}[own[0]]
        script_parser(command, own[0].partition("/")[2]).parse_args(own[1:])
    else:
        assert program == "ray", words
        entrypoint = own[own.index("--") + 1 :] if "--" in own else []
        command_words = own[: own.index("--")] if "--" in own else own
        group: Any = ray_cli
        while isinstance(group, click.Group):
            group = group.commands[command_words.pop(0)]
        if group.name == "symmetric_run":  # which passes what it does not know to `ray start`
            with group.make_context("ray", [*command_words]) as context:
                rest = context.params["ray_args_and_entrypoint"]
            command_words, group = [*rest], ray_cli.commands["start"]
        required = ["."] if entrypoint and group.name == "submit" else []
        group.make_context("ray", [*command_words, *required]).close()
        if entrypoint:
            require_parsed(entrypoint)


def shell_commands(text: str) -> list[list[str]]:
    """The commands of distcel and Ray in lines of a shell."""
    for name, value in VARIABLES.items():
        text = text.replace(f"${name}", value)
    parts = [part for line in text.replace("\\\n", " ").splitlines() for part in line.split(";")]
    found = []
    for part in parts:
        words = shlex.split(part.strip(" ()"), comments=True) if part.count("'") % 2 == 0 else []
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words and Path(words[0]).name in ("ray", "distcel", "python"):
            found.append(words)
    return found


def commands_of_files() -> list[list[str]]:
    job = documents("rayjob.yaml")[1]["spec"]["entrypoint"]
    machines = documents("cluster.yaml")[0]
    starts = [*machines["head_start_ray_commands"], *machines["worker_start_ray_commands"]]
    slurm = (LAUNCH / "slurm.sbatch").read_text()
    page = (ROOT / "docs" / "clusters.md").read_text()
    consoles = [block.text for block in blocks(page) if block.info == "console"]
    return shell_commands("\n".join([job, *starts, slurm, *consoles]))


@pytest.mark.parametrize(
    "words", {" ".join(words): words for words in commands_of_files()}.values()
)
def test_every_command_is_parsed(words: list[str]) -> None:
    require_parsed(words)


def test_each_file_and_the_page_have_commands_that_are_parsed() -> None:
    lines = [" ".join(words) for words in commands_of_files()]
    for part in ("ray symmetric-run", "ray start --head", "ray start --address=", "ray job submit"):
        assert any(part in line for line in lines), part
    assert sum("distcel search" in line for line in lines) >= 2


@pytest.mark.parametrize("words", ["ray start --haed", "ray job submit --working .", "distcel x"])
def test_a_command_with_an_error_is_found(words: str) -> None:
    with pytest.raises((SystemExit, click.ClickException)):
        require_parsed(words.split())


def test_the_rayjob_has_the_fields_of_kuberay() -> None:
    schema = json.loads((Path(__file__).parent / "rayjob-schema.json").read_text())
    claim, job = documents("rayjob.yaml")
    jsonschema.validate(job, schema)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"]["mode"] == "token"
    (volume,) = cluster["headGroupSpec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    cluster["headGroupSpec"]["rayStartParameters"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParameters"):
        jsonschema.validate(job, schema)


def test_the_cluster_of_machines_has_the_fields_of_ray() -> None:
    path = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    (machines,) = documents("cluster.yaml")
    jsonschema.validate(machines, json.loads(path.read_text()))
    assert machines["head_node_type"] in machines["available_node_types"]
    for command in (machines["head_start_ray_commands"], machines["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token RAY_TMPDIR=~/ray " in command[-1]


def test_the_image_has_a_user_and_the_wheels_that_were_chosen() -> None:
    lines = (LAUNCH / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]
    known = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
    assert {step.split()[0] for step in steps} == known
    assert [step for step in steps if step.startswith("USER")] == ["USER 1000"]
    assert any("whl/${TORCH}" in step for step in steps if step.startswith("RUN pip install"))
    kept = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    assert kept[0] == "*"
    for name in kept[1:]:
        assert "*" in name or (ROOT / name.removeprefix("!")).exists()


def test_the_slurm_script_is_a_shell_script_with_options_of_sbatch() -> None:
    path = LAUNCH / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    options = re.findall(r"^#SBATCH --([\w-]+)", path.read_text(), re.MULTILINE)
    assert set(options) <= {
        *(
            "job-name",
            "nodes",
            "ntasks-per-node",
            "cpus-per-task",
            "exclusive",
            "time",
            "output",
            "requeue",
        )
    }

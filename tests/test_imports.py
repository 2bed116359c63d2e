"""Imports point one way, and each heavy library is known to few modules."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A module may import from the rows above its own.
LAYERS = [
    {"checks", "quadrature", "source_code"},
    {"types"},
    {
        "worker_pool",
        "trial_record",
        "tracked",
        "significance",
        "slices",
        "machine",
        "space",
        "markdown",
    },
    {"storage", "image_files", "knapsack", "networks", "training", "run_lock"},
    {"sample_formats", "sample_tables", "training_state"},
    {"sources", "duplicates"},
    {"datasets"},
    {"predictions", "trials", "tracking"},
    {"trained_network", "votes"},
    {"workers"},
    {"crossfit", "ensemble", "learners", "consensus", "cost"},
    {"fleet", "estimate", "report", "standalone", "static_rules", "neighbour_rules", "meta_des"},
    {"selection", "mlflow_model", "live_updates", "measures", "rules", "recorder"},
    {"search", "gating", "single_network", "kept_training"},
    {"refit"},
    {"prepare", "trained_rules", "gradient_study"},
    {"pipeline", "learned_vote"},
    {"comparison"},
    {"outcomes"},
    {"seed_tables", "gradient_table", "figures", "reproduction_notes", "outcome_json"},
    {"reproduction_report"},
    {"reproduction", "results_file"},
]
USERS = {
    "ray": {
        *(
            "distcel.workers",
            "distcel.fleet",
            "distcel.selection",
            "distcel.search",
            "distcel.recorder",
            "distcel.kept_training",
        ),
        *("distcel.pipeline", "distcel.comparison", "launch.ray_cluster"),
    },
    "mlflow": {"distcel.tracking", "distcel.mlflow_model"},
    "pyarrow": {"distcel.sample_tables", "distcel.datasets"},
    "deslib": {"distcel.meta_des"},
    "optuna": {
        *("distcel.types", "distcel.space", "distcel.search", "distcel.prepare"),
        "distcel.learned_vote",
    },
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("distcel", "search_spaces", "launch")
    for path in (ROOT / package).glob("*.py")
    if path.name != "__init__.py"
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_lower_layers_alone(module: str) -> None:
    package, name = module.split(".")
    own = {other for other in imported(MODULES[module]) if other in MODULES}
    if package == "distcel":
        level = next(i for i, layer in enumerate(LAYERS) if name in layer)
        allowed = {f"distcel.{lower}" for layer in LAYERS[:level] for lower in layer}
    elif package == "search_spaces":
        allowed = {"distcel.checks", "distcel.types", "search_spaces.common", "search_spaces.mnist"}
    else:
        allowed = set(MODULES)
    assert own <= allowed


def test_the_knapsack_layer_needs_torch_alone() -> None:
    found = imported(MODULES["distcel.knapsack"]) | imported(MODULES["distcel.quadrature"])
    roots = {name.split(".")[0] for name in found}
    assert roots - set(sys.stdlib_module_names) == {"torch", "distcel"}
    assert {n for n in found if n in MODULES} == {
        "distcel.checks",
        "distcel.types",
        "distcel.quadrature",
    }


@pytest.mark.parametrize("library", sorted(USERS))
def test_heavy_libraries_are_known_to_few_modules(library: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if library in {name.split(".")[0] for name in imported(path)}
        and not (library == "optuna" and module.startswith("search_spaces."))
    }
    assert users == USERS[library]

"""Write the ensemble of a run as programs that run without distcel.

distcel export runs/digits-quick-seed0                         RUN/torch-export/
distcel export runs/digits-quick-seed0 --format onnx           RUN/onnx/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from distcel.cli.output import put

SUMMARY = "write the ensemble as programs that run without distcel"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `export`."""
    add = flags.add_argument
    add("folder", type=Path, metavar="RUN", help="a run directory, or an ensemble folder")
    add("--format", default="torch-export", help="torch-export or onnx (torch-export)")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder `RUN/FORMAT`; returns the exit status.

    Raises:
        InvalidInputError: there is no ensemble, or no such format.
    """
    from distcel.serve.export import export_ensemble
    from distcel.serve.saved import load_ensemble

    ensemble, folder = load_ensemble(arguments.folder), arguments.folder / arguments.format
    export_ensemble(ensemble, folder, arguments.format)
    put(f"{folder}: the selection net and {len(ensemble.learners)} learners")
    return 0

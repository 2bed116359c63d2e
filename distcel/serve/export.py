"""The ensemble as programs that run without distcel: one for the selection net, one a learner.

`export.json` has what they leave open: which is whose, k, the temperature and the classes' names.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from distcel.core.ensemble import LearnedVote, SummedVote
from distcel.experiment.errors import invalid, require, require_choice
from distcel.serve.ensemble import Ensemble
from distcel.storage.files import write_json
from distcel.storage.folders import replaced_folder

ExportFormat = Literal["torch-export", "onnx"]
_SUFFIXES = {"torch-export": ".pt2", "onnx": ".onnx"}


class _Scores(nn.Module):
    """The scores (B, N) of the learners (Eqs. 8-9); the k highest select."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.selection_net = copy.deepcopy(ensemble.smart.selection_net)
        self.kept = ensemble.kept

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return normalize(self.selection_net(images_BCHW), dim=-1)[:, self.kept]


class _Vote(nn.Module):
    """What a learner adds to the logits, where it is selected: (B, C)."""

    def __init__(self, learner: nn.Module, vote: SummedVote | LearnedVote) -> None:
        super().__init__()
        self.learner, self.vote = learner, vote

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.vote.of_learner(0, self.learner(images_BCHW).softmax(-1))


def export_ensemble(
    ensemble: Ensemble, folder: Path, export_format: ExportFormat = "torch-export"
) -> None:
    """Write the folder, in place of an earlier one.

    Each program takes uint8 images (B, channels, H, W), any B, and computes on the CPU. The
    selection net's returns scores (B, N), a learner's what it adds to the logits (B, C): with the
    summed vote its class probabilities. The softmax of the sum over the k learners with the highest
    scores, divided by the temperature, is the prediction (Eqs. 10-12).

    Args:
        ensemble: the ensemble, on the CPU.
        folder: the folder to write.
        export_format: `torch-export`, which `torch.export.load` reads, or `onnx`.

    Raises:
        InvalidInputError: another format, networks that cannot be exported, or the extra `onnx` is
            missing.
    """
    require_choice("format", export_format, ExportFormat)
    if export_format == "onnx":
        installed, remedy = find_spec("onnxscript") is not None, "pip install 'distcel[onnx]'"
        require(installed, "the package onnxscript for --format onnx", None, remedy)
    suffix = _SUFFIXES[export_format]
    with replaced_folder(folder) as new:
        (new / "learners").mkdir()
        net = _traced(_Scores(ensemble), ensemble)
        selection_net = f"selection_net{suffix}"
        _save(net, new / selection_net)
        # Learners differ in their weights alone, and saving is much faster than tracing.
        votes = [_vote(ensemble, i) for i in range(len(ensemble.learners))]
        program = _traced(_vote(ensemble, 0), ensemble)
        files = [f"learners/{i:04d}{suffix}" for i in range(len(votes))]
        for file, vote in zip(files, votes, strict=True):
            _copy_weights(vote, program)
            _save(program, new / file)
        learners = zip(ensemble.learner_names, files, strict=True)
        write_json(
            new / "export.json",
            {
                "format": export_format,
                "versions": {"torch": torch.__version__},
                "image_shape": ensemble.plan.image_shape,
                "class_names": ensemble.class_names,
                "k": ensemble.smart.layer.k,
                "temperature": ensemble.temperature,
                "selection_net": selection_net,
                "learners": [{"name": name, "file": file} for name, file in learners],
            },
        )


def _vote(ensemble: Ensemble, index: int) -> _Vote:
    """A copy of the learner with its own part of the vote."""
    vote = ensemble.smart.vote
    if isinstance(vote, LearnedVote):
        own = LearnedVote(1, len(ensemble.class_names), 1)
        kept = [ensemble.kept[index]]
        own.load_state_dict({name: value[kept] for name, value in vote.state_dict().items()})
        vote = own
    return _Vote(copy.deepcopy(ensemble.learners[index]), vote)


def _traced(module: nn.Module, ensemble: Ensemble) -> torch.export.ExportedProgram:
    # Channels last, torch would not know where a weight ends, and warn.
    module = module.to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(2, *ensemble.plan.image_shape, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # whatever a user's function of an architecture leads to
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        rule, remedy = "networks that torch.export traces", "correct the function that builds them"
        raise invalid(rule, f"{ensemble.plan.architecture.name} ({reason})", remedy) from None


def _copy_weights(module: nn.Module, program: torch.export.ExportedProgram) -> None:
    with torch.no_grad():
        for name, value in module.state_dict().items():
            program.state_dict[name].copy_(value)


def _save(program: torch.export.ExportedProgram, path: Path) -> None:
    if path.suffix == ".pt2":
        torch.export.save(program, path)
        return
    converted = torch.onnx.export(
        program, (), dynamo=True, verbose=False, input_names=["images"], output_names=["outputs"]
    )
    assert converted is not None, "with dynamo there is a program"
    converted.save(path, external_data=False)

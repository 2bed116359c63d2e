"""The result to take away: a folder with the smart ensemble and all base learners."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distcel.core.ensemble import SmartEnsemble, trained_ensemble
from distcel.core.networks import NetworkPlan
from distcel.data.images import decode_images
from distcel.experiment.errors import require
from distcel.experiment.types import Architecture, SelectionParams
from distcel.storage.files import PARTIAL, write_atomically

_BATCH = 256
_FACTS, _SMART = "ensemble.json", "smart_ensemble.safetensors"


class Ensemble(nn.Module):
    """A smart ensemble with its base learners; each learner sees only the images it votes on.

    Attributes:
        class_names: of the C classes.
        learner_names: of the N base learners.
    """

    def __init__(
        self,
        smart: SmartEnsemble,
        learners: Sequence[nn.Module],
        class_names: tuple[str, ...],
        learner_names: tuple[str, ...],
        plan: NetworkPlan,
    ) -> None:
        super().__init__()
        self.smart, self.learners = smart, nn.ModuleList(learners)
        self.class_names, self.learner_names, self.plan = class_names, learner_names, plan
        self.eval()

    @torch.inference_mode()
    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Class probabilities (B, C) of uint8 images of the plan's shape (Eqs. 8-12)."""
        mask_BN = self.smart.select(images_BCHW).bool()
        total_BC = torch.zeros(len(images_BCHW), len(self.class_names), device=images_BCHW.device)
        chosen_NB = mask_BN.unbind(1)
        for i, (learner, chosen_B) in enumerate(zip(self.learners, chosen_NB, strict=True)):
            if chosen_B.any():
                probs_BC = learner(images_BCHW[chosen_B]).softmax(-1)
                total_BC[chosen_B] += self.smart.vote.of_learner(i, probs_BC)
        return total_BC.softmax(-1)

    def classify(self, paths: Sequence[str | Path]) -> list[str]:
        """The class of each image file, resized to the plan's size where that is a square.

        Raises:
            InvalidInputError: a file is unreadable, or of another size than a plan without square.
        """
        channels, height, width = self.plan.image_shape
        side = height if height == width else None
        mode, device = "RGB" if channels == 3 else "L", next(self.parameters()).device
        names: list[str] = []
        for start in range(0, len(paths), _BATCH):
            batch = [Path(path) for path in paths[start : start + _BATCH]]
            images = torch.from_numpy(decode_images(batch, mode, side)).to(device)
            fits, found = images.shape[2:] == (height, width), tuple(images.shape[2:])
            require(fits, f"images of {height} x {width} pixels", found, "resize them")
            names += [self.class_names[c] for c in self(images).argmax(-1).tolist()]
        return names


def _bytes(weights: Mapping[str, Tensor]) -> bytes:
    return save({name: value.contiguous() for name, value in weights.items()})


def save_ensemble(
    folder: Path,
    plan: NetworkPlan,
    params: SelectionParams,
    class_names: tuple[str, ...],
    smart: Mapping[str, Tensor],
    learners: Sequence[tuple[str, Mapping[str, Tensor]]],
) -> None:
    """Write the folder, in place of an earlier one.

    Args:
        folder: where to.
        plan: how the networks are built.
        params: k and the vote matter from here on.
        class_names: of the C classes.
        smart: weights of the smart ensemble.
        learners: names and weights of the base learners, in the order of the scores.
    """
    facts = {
        "class_names": class_names,
        "learner_names": [name for name, _ in learners],
        "params": params.as_dict(),
        "architecture": asdict(plan.architecture),
        "image_shape": plan.image_shape,
        "mean": plan.mean,
        "std": plan.std,
    }
    partial = folder.with_name(f"{PARTIAL}{folder.name}")

    def put(name: str | Path, content: bytes) -> None:
        write_atomically(partial / name, lambda file: file.write(content))

    try:
        put(_FACTS, json.dumps(facts, indent=2).encode())
        put(_SMART, _bytes(smart))
        for i, (_, weights) in enumerate(learners):
            put(_learner_path(i), _bytes(weights))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _learner_path(index: int) -> Path:
    return Path("learners", f"{index:04d}.safetensors")


def load_ensemble(folder: str | Path) -> Ensemble:
    """Read what `save_ensemble` wrote; runs on the CPU until it is moved."""
    folder = Path(folder)
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text())
    architecture = facts["architecture"]
    plan = NetworkPlan(
        Architecture(architecture["family"], tuple(architecture["channels"])),
        tuple(facts["image_shape"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
    )
    class_names, names = tuple(facts["class_names"]), tuple(facts["learner_names"])

    def learner(index: int) -> nn.Module:
        built = plan.build(len(class_names), seed=0)
        built.load_state_dict(load_file(folder / _learner_path(index)))
        return built

    params = SelectionParams.from_dict(facts["params"])
    weights = load_file(folder / _SMART)
    smart = trained_ensemble(plan, len(names), len(class_names), params, weights)
    learners = [learner(i) for i in range(len(names))]
    return Ensemble(smart, learners, class_names, names, plan)

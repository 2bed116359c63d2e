"""The training loop of all networks: base learners, selection nets and trained rules.

Images are on the device as uint8; batches are selected by index and augmented there, so there are
no loader processes. On a CPU every random number comes from the given seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from distcel.experiment.errors import DivergedError
from distcel.experiment.types import Recipe


class Training:
    """Trains one network, an epoch a call, on batches of sample indices.

    Args:
        network: the network, trained in place.
        batch_loss: computes the mean loss of a batch from its sample indices, shape (B,), and the
            source of random numbers.
        indices_S: the indices of the samples to train on, on the network's device.
        recipe: optimizer, schedule, batch size and epochs.
        seed: seeds every random number.

    Attributes:
        epoch: number of epochs that are done.
        seconds: duration of these epochs.
        generator: the only source of random numbers, on the CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        batch_loss: Callable[[Tensor, torch.Generator], Tensor],
        indices_S: Tensor,
        recipe: Recipe,
        seed: int,
    ) -> None:
        self.network, self.batch_loss, self.indices_S = network, batch_loss, indices_S
        self.n_batches = -(-len(indices_S) // recipe.batch_size)
        self.epoch, self.seconds = 0, 0.0
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = _optimizer(network, recipe)
        self.schedule = _schedule(self.optimizer, recipe, self.n_batches)
        self.steps_each_batch = recipe.schedule == "one_cycle"

    def run_epoch(self) -> float:
        """Train on every sample once and return the mean loss.

        Raises:
            DivergedError: the mean loss or a weight is NaN or infinite.
        """
        started = time.monotonic()
        self.network.train()
        order_S = torch.randperm(len(self.indices_S), generator=self.generator)
        shuffled_S = self.indices_S[order_S.to(self.indices_S.device)]
        total = torch.zeros((), device=shuffled_S.device)
        # Batches of nearly equal size: a last batch of one sample would break batch norm.
        for batch_B in shuffled_S.tensor_split(self.n_batches):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.batch_loss(batch_B, self.generator)
            loss.backward()
            self.optimizer.step()
            if self.steps_each_batch:
                self.schedule.step()
            total += loss.detach() * len(batch_B)
        if not self.steps_each_batch:
            self.schedule.step()
        mean_loss = float(total) / len(shuffled_S)
        if not math.isfinite(mean_loss):
            raise DivergedError(f"the training loss became {mean_loss}: try a smaller lr")
        # A hard mask of NaN scores is a mask like any other, so the loss alone does not show it.
        if not all(value.isfinite().all() for value in self.network.state_dict().values()):
            raise DivergedError("a weight became NaN or infinite: try a smaller lr")
        self.epoch += 1
        self.seconds += time.monotonic() - started
        return mean_loss


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    weights, decay = network.parameters(), recipe.weight_decay
    if recipe.optimizer == "adadelta":
        return torch.optim.Adadelta(weights, lr=recipe.lr, weight_decay=decay)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(weights, lr=recipe.lr, weight_decay=decay)
    return torch.optim.SGD(weights, lr=recipe.lr, momentum=recipe.momentum, weight_decay=decay)


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, n_batches: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "one_cycle":
        total = recipe.epochs * n_batches
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.lr, total_steps=total, cycle_momentum=recipe.optimizer == "adam"
        )
    gamma = recipe.gamma if recipe.schedule == "step" else 1.0
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=gamma)


def augment(images_BCHW: Tensor, augmentation: str, generator: torch.Generator) -> Tensor:
    """Mirror each image with probability 1/2 (`flip`) and shift it by up to 1/8 (`crop`)."""
    batch, device = len(images_BCHW), images_BCHW.device
    if "flip" in augmentation:
        mirrored_B = torch.rand(batch, generator=generator).to(device) < 0.5
        images_BCHW = torch.where(
            mirrored_B[:, None, None, None], images_BCHW.flip(-1), images_BCHW
        )
    if "crop" in augmentation:
        height, width = images_BCHW.shape[-2:]
        reach = height // 8
        shifts_2B = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator).to(device)
        padded = nn.functional.pad(images_BCHW, (reach,) * 4)
        rows_BH = shifts_2B[0][:, None] + torch.arange(height, device=device)
        columns_BW = shifts_2B[1][:, None] + torch.arange(width, device=device)
        samples_B = torch.arange(batch, device=device)[:, None, None]
        crops_BHWC = padded.permute(0, 2, 3, 1)[samples_B, rows_BH[:, :, None], columns_BW[:, None]]
        images_BCHW = crops_BHWC.permute(0, 3, 1, 2)
    return images_BCHW


def to_tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    """A tensor of the array on the device; on the CPU it shares memory, so never write to it."""
    return from_dlpack(array).to(device)


@torch.inference_mode()
def predict(network: nn.Module, *inputs: Tensor, batch_size: int = 256) -> Tensor:
    """The network's outputs for every sample, shape (S, outputs), in evaluation mode.

    Args:
        network: maps a batch of each of the inputs to its outputs.
        inputs: images and further inputs, each of shape (S, ...).
        batch_size: number of samples at once.
    """
    network.eval()
    batches = zip(*(values.split(batch_size) for values in inputs), strict=True)
    return torch.cat([network(*batch) for batch in batches])


def accuracy(outputs_SC: Tensor, labels_S: Tensor) -> float:
    """The fraction of samples whose largest output is their label's."""
    return (outputs_SC.argmax(-1) == labels_S).double().mean().item()

"""A smart ensemble with all its base learners, which predicts from images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distcel.core.ensemble import SmartEnsemble
from distcel.core.networks import NetworkPlan
from distcel.data.images import decode_image, decode_images
from distcel.experiment.errors import invalid, require

_BATCH = 256

# uint8 of shape (B, channels, H, W) with values from 0 to 255, or the paths of B image files.
ImageBatch = NDArray[np.uint8] | Tensor | Sequence[str | Path]
Vote = tuple[str, str, float]  # a learner's name, its predicted class and that class's probability


class Ensemble(nn.Module):
    """A smart ensemble with its base learners; a learner runs on the images it is selected for.

    Image files are resized to the size that it was trained on, if that is a square.

    Attributes:
        class_names: names of the C classes.
        learner_names: names of the N base learners.
        kept: the place of each of them among the selection net's outputs, which are more than N
            where the folder was pruned.
        plan: how the networks are built; `image_shape` is (channels, H, W).
        temperature: divides the logits of the vote in class probabilities; no prediction of a class
            depends on it.
    """

    def __init__(
        self,
        smart: SmartEnsemble,
        learners: Sequence[nn.Module],
        class_names: tuple[str, ...],
        learner_names: tuple[str, ...],
        plan: NetworkPlan,
        temperature: float,
        kept: Sequence[int],
    ) -> None:
        super().__init__()
        self.smart, self.learners, self.kept = smart, nn.ModuleList(learners), list(kept)
        self.class_names, self.learner_names, self.plan = class_names, learner_names, plan
        self.temperature = temperature
        self.eval()

    def __repr__(self) -> str:
        n, shape = len(self.learners), "x".join(map(str, self.plan.image_shape))
        k, classes = self.smart.layer.k, len(self.class_names)
        return f"Ensemble(k={k} of {n} learners, {classes} classes, images {shape})"

    @torch.inference_mode()
    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Class probabilities (B, C) of uint8 images, on their device (Eqs. 8-12), tempered."""
        return (self._logits(images_BCHW) / self.temperature).softmax(-1)

    def scores(self, images_BCHW: Tensor) -> Tensor:
        """The scores (B, N) of uint8 images, on their device; the k highest select (Eqs. 8-9)."""
        return self.smart.scores(images_BCHW)[:, self.kept]

    def _select(self, images_BCHW: Tensor) -> Tensor:
        mask_BN: Tensor = self.smart.layer(self.scores(images_BCHW))
        return mask_BN

    @torch.inference_mode()
    def _logits(self, images_BCHW: Tensor) -> Tensor:
        mask_BN = self._select(images_BCHW).bool()
        total_BC = torch.zeros(len(images_BCHW), len(self.class_names), device=images_BCHW.device)
        for i, selected_B, probs_VC in self._votes(images_BCHW, mask_BN):
            total_BC[selected_B] += self.smart.vote.of_learner(self.kept[i], probs_VC)
        return total_BC

    def predict(self, images: ImageBatch) -> list[str]:
        """The name of each image's most probable class.

        Args:
            images: uint8 array or tensor (B, channels, H, W), or the paths of B files.

        Raises:
            InvalidInputError: another dtype or shape, or a file that cannot be read.
        """
        logits_BC = self._by_batches(images, self._logits, len(self.class_names))
        return [self.class_names[c] for c in logits_BC.argmax(-1)]

    def predict_proba(self, images: ImageBatch) -> NDArray[np.float32]:
        """Class probabilities (B, C), with the arguments and errors of `predict`."""
        return self._by_batches(images, self.forward, len(self.class_names))

    def selected(self, images: ImageBatch) -> NDArray[np.bool_]:
        """Mask (B, N) of the selected learners, with the arguments and errors of `predict`."""
        with torch.inference_mode():
            mask_BN = self._by_batches(images, self._select, len(self.learner_names))
        return mask_BN.astype(np.bool_)

    @torch.inference_mode()
    def explain(self, images: ImageBatch) -> list[list[Vote]]:
        """For each image the learners that are selected, in their order, and what each predicts.

        Args:
            images: uint8 array or tensor (B, channels, H, W), or the paths of B files.

        Returns:
            list: for each image a list of (name of the learner, its most probable class, that
                class's probability).

        Raises:
            InvalidInputError: another dtype or shape, or a file that cannot be read.
        """
        votes: list[list[Vote]] = []
        for batch_BCHW in self._batches(images):
            own: list[list[Vote]] = [[] for _ in batch_BCHW]
            mask_BN = self._select(batch_BCHW).bool()
            for i, selected_B, probs_VC in self._votes(batch_BCHW, mask_BN):
                highest_V, class_V = (value.tolist() for value in probs_VC.max(-1))
                where_V = selected_B.nonzero().flatten().tolist()
                for image, c, probability in zip(where_V, class_V, highest_V, strict=True):
                    vote = self.learner_names[i], self.class_names[c], probability
                    own[image].append(vote)
            votes += own
        return votes

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """The pixels (channels, H, W) of an image file, given its bytes, resized as files are.

        Raises:
            InvalidInputError: it is no image, or of another size where that is no square.
        """
        image_CHW = decode_image(content, *self._mode_and_side())
        self._require_size(image_CHW)
        return image_CHW

    def _votes(self, images_BCHW: Tensor, mask_BN: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each selected learner: its index, mask (B,) of its V images, outputs (V, C)."""
        selected_NB = mask_BN.unbind(1)
        for i, (learner, selected_B) in enumerate(zip(self.learners, selected_NB, strict=True)):
            if selected_B.any():
                yield i, selected_B, learner(images_BCHW[selected_B]).softmax(-1)

    def _by_batches(
        self, images: ImageBatch, compute: Callable[[Tensor], Tensor], n_columns: int
    ) -> NDArray[np.float32]:
        rows = [compute(batch_BCHW).cpu().numpy() for batch_BCHW in self._batches(images)]
        empty = np.empty((0, n_columns), np.float32)
        return np.concatenate([empty, *rows])

    def _batches(self, images: ImageBatch) -> Iterator[Tensor]:
        """The images, at most 256 at a time, on the device of the ensemble."""
        device = next(self.parameters()).device
        if isinstance(images, str | Path):
            images = [images]
        if not isinstance(images, np.ndarray | Tensor):
            paths = [_as_path(image) for image in images]
            for start in range(0, len(paths), _BATCH):
                yield torch.from_numpy(self._decoded(paths[start : start + _BATCH])).to(device)
            return
        self._require_images(images)
        for start in range(0, len(images), _BATCH):
            # A copy, since torch warns about an array that is read-only.
            batch = images[start : start + _BATCH]
            yield (batch if isinstance(batch, Tensor) else torch.tensor(batch)).to(device)

    def _decoded(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        images_BCHW = decode_images(paths, *self._mode_and_side())
        self._require_size(images_BCHW)
        return images_BCHW

    def _mode_and_side(self) -> tuple[str, int | None]:
        """As the decoder takes them; without a side it does not resize."""
        channels, height, width = self.plan.image_shape
        return "RGB" if channels == 3 else "L", height if height == width else None

    def _require_size(self, images: NDArray[np.uint8]) -> None:
        _, *size = self.plan.image_shape
        found = list(images.shape[-2:])
        rule = f"images of {size[0]} x {size[1]} pixels"
        require(found == size, rule, tuple(found), "resize them")

    def _require_images(self, images: NDArray[np.uint8] | Tensor) -> None:
        dtype = str(images.dtype).removeprefix("torch.")
        if dtype != "uint8":
            remedy = "convert them, as to (255 * images).astype('uint8') where they are 0 to 1"
            raise invalid("images of dtype uint8, values from 0 to 255", dtype, remedy)
        shape, expected = tuple(images.shape), self.plan.image_shape
        one = shape == expected
        rule = f"images of shape (B, {', '.join(map(str, expected))})"
        remedy = "give a batch, images[None]" if one else "resize or transpose them"
        require(len(shape) == 4 and shape[1:] == expected, rule, shape, remedy)


def _as_path(image: object) -> Path:
    is_path = isinstance(image, str | Path)
    remedy = "stack arrays into one of shape (B, channels, H, W)"
    rule = "images as one array or tensor, or as a list of paths"
    require(is_path, rule, f"a list with {type(image).__name__}", remedy)
    return Path(image)  # type: ignore[arg-type]

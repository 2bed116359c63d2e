"""E2e-CEL whose selection net starts as a network that has learned to classify the images.

It separates two reasons why e2e-CEL may be below a single network: a selection net that is trained
too little, or base learners that add nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from distcel.data.splits import Split
from distcel.execute.jobs import Progress
from distcel.experiment.types import SelectionParams
from distcel.rules.rule import Rule, cost_with_selection_net, k_learners
from distcel.rules.single_network import SingleNetwork
from distcel.search.refit import SmartRule, choose_k
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask

FROM_CLASSIFIER = Rule(
    key="e2e_cel_from_classifier",
    title="e2e-CEL from a classifier",
    about="the smart ensemble at the best trial's parameters whose selection net starts with the "
    "weights of the brief single network, all but the last layer's. Its epochs are those of both",
    fitted_on="train",
    n_used=k_learners,
    cost=cost_with_selection_net(k_learners),
)


@dataclass(frozen=True)
class FromClassifier:
    """The smart ensemble whose selection net starts as a trained classifier.

    Attributes:
        params: the parameters of the smart ensemble; a k of `any` is chosen on valid.
        classifier: the network that is trained first, on the same samples.
    """

    params: SelectionParams
    classifier: SingleNetwork

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        """Train the classifier and then the ensemble, always from the start: no state is kept.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        *_, classifier = self.classifier.train(task, device, None)
        assert isinstance(classifier, TrainedNetwork), "a training ends with its network"
        training = task.begin(self.params, device)
        _start_from(training.ensemble.get_submodule("selection_net"), classifier)
        trained = training.run()
        yield replace(trained, epochs=(*classifier.epochs, *trained.epochs))

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities (Eq. 11), shape (S, C)."""
        own = replace(self.params, k=self.chosen_k(trained, task))
        return SmartRule(own).predict(trained, task, split)

    def chosen_k(self, trained: TrainedNetwork, task: TrainingTask) -> int:
        """The parameters' k, or the best one on valid."""
        return choose_k(task, self.params, trained)[0].chosen_k


def from_classifier(
    params: SelectionParams, lrs: Sequence[float], classifier: SingleNetwork
) -> dict[str, dict[float, FromClassifier]]:
    """The rule by key and learning rate of the ensemble; `params` are the best trial's."""
    own = {lr: FromClassifier(replace(params, lr=lr), classifier) for lr in lrs}
    return {FROM_CLASSIFIER.key: own}


def _start_from(net: nn.Module, classifier: TrainedNetwork) -> None:
    """Load the classifier's weights, but for the last linear layer's, whose outputs are classes."""
    own = net.state_dict()
    linear = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    last = f"{linear[-1]}." if linear else ""
    fitting = {
        name: value
        for name, value in classifier.state_dict.items()
        if own[name].shape == value.shape and not (last and name.startswith(last))
    }
    net.load_state_dict({**own, **fitting})

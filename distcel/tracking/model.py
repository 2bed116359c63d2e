"""The smart ensemble as an MLflow model 'from code': uint8 images to class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

from distcel.serve.saved import load_ensemble


class EnsembleModel(PythonModel):
    """Loads the folder that `save_ensemble` wrote and predicts with it."""

    def load_context(self, context: Any) -> None:
        """Load the ensemble; MLflow calls this once."""
        self.ensemble = load_ensemble(context.artifacts["ensemble"])

    # From the hint np.ndarray, without a dtype, MLflow infers no schema.
    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities (B, C) of images (B, channels, height, width)."""
        probs: NDArray[np.float32] = self.ensemble.predict_proba(model_input)
        return probs


set_model(EnsembleModel())

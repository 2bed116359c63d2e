"""The ensemble behind HTTP, as an application of Ray Serve: `pip install 'distcel[serve]'`.

`serve run distcel.serve.deployment:application folder=RUN` starts it on a cluster that runs.
"""

# Serve pickles the routes as it decorates the class. What they use is therefore above it, and types
# are no text, as `from __future__ import annotations` would make them.

import asyncio
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application

from distcel.experiment.errors import InvalidInputError, require
from distcel.serve.answers import answers
from distcel.serve.saved import load_ensemble

_MAX_BATCH, _SECONDS_TO_FILL_IT = 256, 0.005
_MAX_BYTES = 64 * 2**20

# What FastAPI cannot see of a request: its body is read in parts.
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": _IMAGE}}}

app = FastAPI(title="distcel", version=version("distcel"))


async def _body(request: Request) -> bytes:
    """The request's body.

    Raises:
        InvalidInputError: it is too large, of which no more than the limit is read.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        size, rule = len(content), f"an image file of at most {_MAX_BYTES} bytes"
        require(size <= _MAX_BYTES, rule, size, "send a smaller one")
    return bytes(content)


@serve.deployment(max_ongoing_requests=2 * _MAX_BATCH)
@serve.ingress(app)
class Predictor:
    """Answers requests; what arrives while a batch is computed makes up the next one.

    Args:
        folder: a run directory or an ensemble folder, as the replica's machine has it.
    """

    def __init__(self, folder: str) -> None:
        self.ensemble = load_ensemble(folder)

    @app.post("/predict", openapi_extra=_BODY)
    async def predict(self, request: Request, explain: bool = False) -> dict[str, Any]:
        """Class and probability of the image file that is the request's body."""
        try:
            content = await _body(request)
            image_CHW = await asyncio.to_thread(self.ensemble.decode, content)
        except InvalidInputError as error:
            raise HTTPException(422, str(error)) from None
        answer: dict[str, Any] = await self.answer(image_CHW, explain)
        return answer

    @app.get("/health")
    def health(self) -> dict[str, Any]:
        """What is served."""
        ensemble = self.ensemble
        return {
            "status": "ok",
            "class_names": ensemble.class_names,
            "image_shape": ensemble.plan.image_shape,
            "n_learners": len(ensemble.learner_names),
            "k": ensemble.smart.layer.k,
        }

    @serve.batch(max_batch_size=_MAX_BATCH, batch_wait_timeout_s=_SECONDS_TO_FILL_IT)
    async def answer(
        self, images: list[NDArray[np.uint8]], explain: list[bool]
    ) -> list[dict[str, Any]]:
        """The answers to the requests of a batch, each with its learners where it is explained."""
        return await asyncio.to_thread(self._answers, np.stack(images), np.array(explain))

    def _answers(
        self, images_BCHW: NDArray[np.uint8], explain_B: NDArray[np.bool_]
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{}] * len(images_BCHW)
        for explain in (False, True):
            (rows,) = np.nonzero(explain_B == explain)
            of_rows = answers(self.ensemble, images_BCHW[rows], explain)
            for row, answer in zip(rows, of_rows, strict=True):
                found[row] = answer
        return found


def application(arguments: dict[str, str]) -> Application:
    """What Ray Serve runs.

    Args:
        arguments: `folder`, a run directory or an ensemble folder at a path that all nodes have,
            and `replicas`, how many processes answer (1).
    """
    replicas = int(arguments.get("replicas", 1))
    built: Application = Predictor.options(num_replicas=replicas).bind(arguments["folder"])
    return built

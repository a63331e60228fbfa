"""Artifacts of MLflow runs, which its own package finds and brings; it is imported only for them."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.datastore.errors import NotStorable
from asyncfetch.datastore.threads import on_thread
from asyncfetch.errors import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_SCHEMES = ("runs:/", "models:/", "mlflow-artifacts:/")


def is_mlflow(given: object) -> bool:
    """Whether something is a run of MLflow, or a URI of artifacts that only MLflow can read."""
    return (isinstance(given, str) and given.startswith(_SCHEMES)) or hasattr(
        getattr(given, "info", None), "artifact_uri"
    )


@asynccontextmanager
async def artifacts_of(given: object) -> AsyncIterator[Path]:
    """The artifacts of a run, or those that a URI names, in a temporary directory for the length of the context.

    Raises `ExtraMissing` without mlflow, and `NotStorable` for what it cannot bring, with what it says.
    """
    uri = given if isinstance(given, str) else given.info.artifact_uri  # type: ignore[attr-defined]  # is_mlflow saw it
    try:
        download, refused = await asyncio.to_thread(_load)
    except ImportError:
        raise ExtraMissing(f"{uri} is read by mlflow, which is missing", remedy="pip install mlflow-skinny") from None
    with tempfile.TemporaryDirectory(prefix="asyncfetch-mlflow-") as directory:
        try:
            path = await on_thread(download, artifact_uri=uri, dst_path=directory)
        except (refused, OSError) as error:
            raise NotStorable(f"{uri}: MLflow cannot bring it: {error}") from error
        yield Path(path)


def _load() -> tuple[Callable[..., str], type[Exception]]:
    """What brings artifacts, and what it raises. Importing it takes seconds."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    return download_artifacts, MlflowException

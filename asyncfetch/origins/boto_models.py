"""What botocore reads from its package to make a client: read once in a process, whatever the number of sessions."""

from __future__ import annotations

from functools import cache
from typing import Any


def share_models(session: Any) -> Any:
    """Gives a session of botocore the process's loader for its data path, and returns it.

    A loader of its own would parse 1.5 MB of JSON anew, 0.1 s for S3, and keep them.
    """
    loader = _loader(session.get_config_variable("data_path"))
    session.register_component("data_loader", loader)
    return loader


@cache
def _loader(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)

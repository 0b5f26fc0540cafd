"""The Hugging Face hub: what a repository holds, what of it is here, and how it gets here.

Takes a repository's name, gives its folder in the hub's own cache. Errors are those of the hub's library, or
ModelError; ``models`` turns them into words. Nothing is fetched that is not asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from captiond_engine.errors import ModelError
from captiond_engine.progress import Progress, ProgressEvent
from captiond_engine.whisper import folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


def unreachable() -> tuple[type[Exception], ...]:
    """What the hub's library raises while the hub cannot be reached."""
    from huggingface_hub import errors

    # HTTPError is that of the hub's own HTTP client: a connection that broke off is nothing else.
    return (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)  # type: ignore[attr-defined]


def cached(repository: str) -> Path | None:
    """The folder of ``repository``, if all that a model needs is in it; nothing is asked of the hub."""
    from huggingface_hub import errors, snapshot_download

    try:
        # Of one file, as the library calls a folder incomplete that lacks any file of these names.
        path = Path(snapshot_download(repository, local_files_only=True, allow_patterns=["config.json"]))
    except (errors.LocalEntryNotFoundError, OSError):
        return None
    return None if folder.missing(path) else path


def fetch(repository: str, progress: Progress) -> Path:
    """Download what a model needs of ``repository``, once; what is here is not fetched again.

    Raises ModelError where the repository is no Whisper that runs here, and what the hub's library raises.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        sizes = _listed(repository)
    except errors.RepositoryNotFoundError:
        raise
    except unreachable():
        sizes = {}  # what is here may do
    patterns = _patterns(repository, sizes)
    total = sum(size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in patterns))
    bar = _reporting(repository, total, progress)
    path = Path(snapshot_download(repository, allow_patterns=list(patterns), tqdm_class=bar))
    if lacking := folder.missing(path):
        raise ModelError(
            f"The model {repository} is not whole: it lacks {', '.join(lacking)}.",
            advice="Run the same command again while the hub can be reached, or name another model.",
        )
    return path


def _listed(repository: str) -> dict[str, int]:
    """Names and sizes in bytes of a repository's files."""
    from huggingface_hub import HfApi

    return {entry.path: entry.size for entry in HfApi().list_repo_tree(repository) if hasattr(entry, "size")}


def _patterns(repository: str, names: Mapping[str, int]) -> tuple[str, ...]:
    """What to ask for: safetensors, or pickled weights where there are no others."""
    if not names or any(name in folder.SAFETENSORS for name in names):
        return (*folder.SETTINGS, *folder.SAFETENSORS, "model-*-of-*.safetensors")
    if any(name in folder.PICKLED for name in names):
        return (*folder.SETTINGS, *folder.PICKLED, "pytorch_model-*-of-*.bin")
    what, advice = folder.foreign(names) or ("no model with weights", "Name another repository.")
    raise ModelError(f"{repository} on the hub is {what}, which does not run here.", advice=advice)


def verify(path: Path) -> None:
    """Compare each weights file with the SHA-256 under which the hub names it. Raises ModelError."""
    for file in folder.weight_files(path):
        blob = file.resolve()
        if not _SHA256.fullmatch(blob.name):
            continue
        with blob.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != blob.name:
            blob.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            raise ModelError(
                f"{file.name} arrived damaged (its SHA-256 is not the hub's) and was removed.",
                advice="Run the same command again.",
                code="model_damaged",
            )


def _reporting(repository: str, total: int, progress: Progress) -> Any:
    """A progress bar class for the hub's downloads that draws nothing and reports bytes to ``progress``.

    ``total`` bytes are to come, 0: unknown. The library has several bars, and raises their totals as it goes.
    """
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    came = 0.0

    class Reporting(tqdm):  # type: ignore[misc]  # tqdm brings no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self.bytes_wanted = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere(), "mininterval": 0.5})

        def display(self, *_: Any, **__: Any) -> bool:
            nonlocal came
            if self.bytes_wanted and total and self.n > came:
                came = self.n
                message = f"downloading {repository}: {came / 1e6:.0f} of {total / 1e6:.0f} MB"
                progress(ProgressEvent("download", message, min(1.0, came / total)))
            return True

    return Reporting


class _Nowhere:
    """A text stream that keeps nothing."""

    write: Callable[[str], int] = staticmethod(len)

    def flush(self) -> None:
        return None

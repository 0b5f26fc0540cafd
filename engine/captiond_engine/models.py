"""Which models there are and where they lie: bundled, a path, or a name on the Hugging Face hub.

Takes a name or path, gives a folder or ``.pt`` file. The hub is reached only by ``pull``, or by ``find``
when it is told to download; there is never a fallback to another model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from captiond_engine.errors import HubUnreachableError, ModelError, ModelNotFoundError
from captiond_engine.progress import Progress, ProgressEvent, silent

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_NAMES = ("demo-en",)
_OPENAI = (
    "tiny.en tiny base.en base small.en small medium.en medium large-v1 large-v2 large-v3 large-v3-turbo"
).split()
HUB_NAMES: dict[str, str] = {
    **{name: f"openai/whisper-{name}" for name in _OPENAI},
    "turbo": "openai/whisper-large-v3-turbo",
    "distil-small.en": "distil-whisper/distil-small.en",
    "distil-medium.en": "distil-whisper/distil-medium.en",
    "distil-large-v3": "distil-whisper/distil-large-v3",
}
_FILES = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "vocab.json",
    "added_tokens.json",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[\w]", re.ASCII)  # with two rules more in _repository
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One row of ``captiond models list``; ``where`` is None while it is not on this machine."""

    name: str
    origin: str
    where: Path | None


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``captiond.json`` beside a model: how it is best run, as measured for it. Lengths in milliseconds."""

    window_partial: str = "full"
    window_final: str = "full"
    min_fitted_window_ms: int = 3_000
    fitted_step_ms: int = 500
    max_segment_ms: int = 25_000
    pack: bool = True  # in recordings, neighbouring segments share a window


def read_card(path: Path) -> Card:
    """The model's card, or the defaults where it brings none. Raises ModelError."""
    file = path / "captiond.json"
    if not path.is_dir() or not file.exists():
        return Card()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Card)
    except msgspec.MsgspecError as error:
        raise ModelError(f"{file}: {error}.", advice="Correct or remove the file.") from error


def find(name: str, *, download: bool = False, progress: Progress = silent) -> Path:
    """Where the model lies. With ``download`` a hub model that is not here is fetched first.

    Raises ModelNotFoundError, HubUnreachableError, ModelError.
    """
    if name in BUNDLED_NAMES:
        return BUNDLED / name
    path = _path(name)
    if path is not None:
        if not path.exists():
            raise ModelNotFoundError(f"There is no file {path}.", advice="Check the path.")
        return path
    repository = _repository(name)
    here = _in_hub_cache(repository)
    if here is not None:
        return here
    if download:
        return pull(name, progress=progress)
    raise ModelNotFoundError(
        f"The model {name} is not on this machine.",
        advice=f"Fetch it with 'captiond models pull {name}', or use the bundled one: --model demo-en.",
    )


def pull(name: str, *, progress: Progress = silent) -> Path:
    """Download a hub model and check it. Raises HubUnreachableError, ModelNotFoundError, ModelError."""
    from huggingface_hub import errors, snapshot_download

    if name in BUNDLED_NAMES or _path(name) is not None:
        return find(name)
    # HTTPError is that of the hub's own HTTP client: a connection that broke off is nothing else.
    unreachable = (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)  # type: ignore[attr-defined]
    repository = _repository(name)
    progress(ProgressEvent("download", f"downloading {repository} from the hub", 0.0))
    try:
        path = Path(
            snapshot_download(repository, allow_patterns=_FILES, tqdm_class=_reporting(repository, progress))
        )
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"The hub has no model {repository}, or it is private.",
            advice="'captiond models list' names some.",
        ) from error
    except unreachable as error:
        reason = _first_line(error)
        raise HubUnreachableError(
            f"The model {name} is not on this machine and the hub cannot be reached ({reason}).",
            advice=(
                f"On a connected machine run 'captiond models pull {name}' and copy the folder that "
                f"'captiond models path {name}' prints; or start with the bundled model: --model demo-en."
            ),
        ) from error
    except OSError as error:
        raise ModelError(
            f"The model {name} could not be stored ({_first_line(error)}).",
            advice="Check the disk and the folder of HF_HOME, then run the same command again.",
        ) from error
    _verify(path)
    progress(ProgressEvent("download", f"downloaded and checked {repository}", 1.0))
    return path


def listing() -> list[ModelEntry]:
    """Bundled models and those known by a short name, with the place of those that are here."""
    rows = [ModelEntry(name, "bundled", BUNDLED / name) for name in BUNDLED_NAMES]
    return rows + [
        ModelEntry(name, repository, _in_hub_cache(repository)) for name, repository in HUB_NAMES.items()
    ]


def _path(name: str) -> Path | None:
    """The folder or ``.pt`` file that ``name`` means, which may be missing; None for every other name."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~someone who has no home here
        return None
    return path if name and (path.is_dir() or path.suffix == ".pt") else None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _repository(name: str) -> str:
    if name in HUB_NAMES:
        return HUB_NAMES[name]
    if _HUB_ID.fullmatch(name) and len(name) <= 96 and not ("--" in name or ".." in name):
        return name
    raise ModelNotFoundError(
        f"There is no model {name!r}: neither a bundled or known name, nor a folder, nor a .pt file.",
        advice="'captiond models list' shows the known names; a hub name has the form owner/name.",
    )


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(repository, allow_patterns=_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    return path if _is_whole(path) else None


def _is_whole(path: Path) -> bool:
    """Whether a snapshot holds its configuration and each file of weights; a pull may have broken off."""
    index = path / "model.safetensors.index.json"
    weights = {"model.safetensors"}
    if index.exists():
        try:
            weights = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
    return all((path / name).exists() for name in ("config.json", *weights))


def _verify(path: Path) -> None:
    """Compare each weights file with the SHA-256 under which the hub names it."""
    for file in path.glob("*.safetensors"):
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


def _reporting(repository: str, progress: Progress) -> Any:
    """A progress bar class for the hub's downloads that draws nothing and reports bytes to ``progress``."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Reporting(tqdm):  # type: ignore[misc]  # tqdm brings no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self.bytes_wanted = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere(), "mininterval": 0.5})

        def display(self, *_: Any, **__: Any) -> bool:
            if self.bytes_wanted and self.total:
                message = f"downloading {repository}: {self.n / 1e6:.0f} of {self.total / 1e6:.0f} MB"
                progress(ProgressEvent("download", message, min(1.0, self.n / self.total)))
            return True

    return Reporting


class _Nowhere:
    """A text stream that keeps nothing."""

    write: Callable[[str], int] = staticmethod(len)

    def flush(self) -> None:
        return None

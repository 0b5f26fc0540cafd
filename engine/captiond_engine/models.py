"""Which models there are and where they lie: bundled, a path, or a name on the Hugging Face hub.

Takes a name or path, gives a folder or a file of OpenAI's format. The hub is reached only by ``pull``, or by
``find`` when it is told to download; there is never a fallback to another model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from captiond_engine import hub
from captiond_engine.errors import HubUnreachableError, ModelError, ModelNotFoundError
from captiond_engine.progress import Progress, ProgressEvent, silent
from captiond_engine.published import ALIASES, HUB_MODELS, did_you_mean
from captiond_engine.whisper import folder

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_NAMES = ("demo-en",)
_CHECKPOINTS = {".pt", ".pth", ".bin"}  # OpenAI's format; distil-whisper calls it original-model.bin
_OTHER_FORMS = (".safetensors", ".gguf", ".npz", ".onnx")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[\w]", re.ASCII)  # with two rules more in _repository


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One row of ``captiond models list``; ``where`` is None while it is not on this machine.

    ``size_bytes``: of its weights on this machine.
    """

    name: str
    origin: str
    where: Path | None
    parameters_m: int = 0
    english: bool = False
    size_bytes: int = 0


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``captiond.json`` beside a model: how it is best run, as measured for it. Lengths in milliseconds."""

    window_partial: str = "full"
    window_final: str = "full"
    min_fitted_window_ms: int = 3_000
    fitted_step_ms: int = 500
    pack: bool = True  # in recordings, neighbouring segments share a window
    max_segment_ms: int = 25_000
    commit: str = "local-agreement"
    commit_hold_ms: int = 400
    unsure: Annotated[float, msgspec.Meta(ge=0, le=1)] = (
        0.0  # a final of a few words less likely than this is not believed
    )
    unfinished_silence_ms: int = 0  # quiet that ends a segment whose text may go on; 0: as any other


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
    here = hub.cached(repository)
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
    from huggingface_hub.errors import RepositoryNotFoundError

    if name in BUNDLED_NAMES or _path(name) is not None:
        return find(name)
    repository = _repository(name)
    progress(ProgressEvent("download", f"downloading {repository} from the hub", 0.0))
    try:
        path = hub.fetch(repository, progress)
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"The hub has no model {repository}, or it is private.",
            advice=did_you_mean(name) + "'captiond models list' names some.",
        ) from error
    except hub.unreachable() as error:
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
    hub.verify(path)
    progress(ProgressEvent("download", f"downloaded and checked {repository}", 1.0))
    return path


def listing() -> list[ModelEntry]:
    """Bundled models and those known by a short name, with the place of those that are here."""
    rows = [
        ModelEntry(
            name, "bundled", BUNDLED / name, 14, english=True, size_bytes=_weight_bytes(BUNDLED / name)
        )
        for name in BUNDLED_NAMES
    ]
    for name, known in HUB_MODELS.items():
        where = hub.cached(known.repository)
        size = _weight_bytes(where) if where else 0
        rows.append(ModelEntry(name, known.repository, where, known.parameters_m, known.english, size))
    return rows


def _weight_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in folder.weight_files(path))


def _path(name: str) -> Path | None:
    """The folder or checkpoint that ``name`` means, which may be missing; None for every other name."""
    try:
        path = Path(name).expanduser()
        there = path.is_dir() or (path.suffix in _CHECKPOINTS and path.is_file())
    except (RuntimeError, OSError, ValueError):  # ~someone who has no home here; what can be no file's name
        return None
    meant = path.suffix == ".pt" or (path.suffix in _CHECKPOINTS and not _HUB_ID.fullmatch(name))
    return path if name and (there or meant) else None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _repository(name: str) -> str:
    name = ALIASES.get(name, name)
    if name in HUB_MODELS:
        return HUB_MODELS[name].repository
    if name.endswith(_OTHER_FORMS) and ("/" not in name or Path(name).is_file()):
        raise ModelNotFoundError(
            f"{name} is a file of another form than OpenAI's, or one part of a model.",
            advice="Name the folder of a Hugging Face model, or a file in OpenAI's format (.pt).",
        )
    if _HUB_ID.fullmatch(name) and len(name) <= 96 and not ("--" in name or ".." in name):
        return name
    raise ModelNotFoundError(
        f"There is no model {name!r}: neither a bundled or known name, nor a folder, nor a .pt file.",
        advice=did_you_mean(name)
        + "'captiond models list' shows the known names; a hub name has the form owner/name.",
    )

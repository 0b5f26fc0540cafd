"""Where the events of recordings go, and in which form: standard output, or files in a folder.

Takes: events in order, recording by recording. Gives: whole lines and whole cues, written as they come, so
that what was written is whole wherever it ends. Knows no engine and no audio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, TextIO

from captiond_engine.errors import EXIT_USAGE, CaptiondError

from captiond import wire
from captiond.files.subtitles import cue_text, cues, printable
from captiond.transcribe.phrases import lines, phrases

Format = Literal["text", "json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = ("text", "json", "srt", "vtt")
SUFFIXES: dict[Format, str] = {"text": ".txt", "json": ".jsonl", "srt": ".srt", "vtt": ".vtt"}


class OutputError(CaptiondError):
    """A file or folder that cannot be written."""

    code = "output_unwritable"
    exit_code = EXIT_USAGE


class Form:
    """One document. ``offset_ms`` is added to the times of subtitles: what was played before."""

    def __init__(self, form: Format) -> None:
        self.offset_ms = 0
        self._form = form
        self._cues = 0

    def head(self) -> str:
        return "WEBVTT\n\n" if self._form == "vtt" else ""

    def text_of(self, event: wire.Event) -> str:
        """What ``event`` adds to the document."""
        if self._form == "json":
            return wire.encode(event).decode() + "\n"
        if not isinstance(event, wire.Final):
            return ""
        if self._form == "text":
            said = (" ".join(printable(line.text).split()) for line in lines(event))
            return "".join(f"{line}\n" for line in said if line)
        return "".join(self._cue_text(phrase, self._form) for phrase in phrases(event))

    def _cue_text(self, phrase: wire.Final, form: Literal["srt", "vtt"]) -> str:
        texts = []
        for cue in cues(phrase):
            self._cues += 1
            texts.append(cue_text(cue, form, self._cues, -self.offset_ms))
        return "".join(texts)


class Output(Protocol):
    """``begin`` a recording, ``put`` its events, ``end`` it after ``heard_ms`` of it. Raises OutputError."""

    def begin(self, source: Path) -> None: ...

    def put(self, event: wire.Event) -> None: ...

    def end(self, heard_ms: int) -> str:
        """Where the recording's text is, for people; empty where they see it."""


class OneDocument:
    """All recordings as one document, as if they were played one after another. ``write`` takes its text."""

    def __init__(self, form: Format, write: Callable[[str], None]) -> None:
        self._form = Form(form)
        self._write = write
        self._begun = False

    def begin(self, source: Path) -> None:
        if not self._begun:
            self._write(self._form.head())
        self._begun = True

    def put(self, event: wire.Event) -> None:
        self._write(self._form.text_of(event))

    def end(self, heard_ms: int) -> str:
        self._form.offset_ms += heard_ms
        return ""


class Folder:
    """Each recording in files of its own, one a format; what stood there before is replaced."""

    def __init__(self, path: Path, forms: Sequence[Format]) -> None:
        self._path = path
        self._forms = forms
        self._open: list[tuple[Form, TextIO]] = []

    def prepare(self, sources: Sequence[Path]) -> None:
        """Make the folder. Raises OutputError where one of ``sources`` or another's text would be lost."""
        taken: dict[Path, Path] = {}
        for source in sources:
            for path in self._paths(source):
                if path.exists() and any(one.exists() and path.samefile(one) for one in sources):
                    raise OutputError(
                        f"{source}: its text would be written over a recording, {path}.",
                        advice="Choose another folder.",
                    )
                if path in taken:
                    raise OutputError(
                        f"{taken[path]} and {source}: their texts would be written over each other, {path}.",
                        advice="Transcribe them apart, into different folders.",
                    )
                taken[path] = source
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self._path, error) from None

    def begin(self, source: Path) -> None:
        self._open = []
        for form, path in zip(map(Form, self._forms), self._paths(source), strict=True):
            try:
                file = path.open("w", encoding="utf-8", newline="\n")
            except OSError as error:
                raise _unwritable(path, error) from None
            self._open.append((form, file))
            _write(file, form.head())

    def put(self, event: wire.Event) -> None:
        for form, file in self._open:
            _write(file, form.text_of(event))

    def end(self, heard_ms: int) -> str:
        names = ", ".join(file.name for _, file in self._open)
        for _, file in self._open:
            with suppress(OSError):  # it was told when it was written
                file.close()
        self._open = []
        return names

    def _paths(self, source: Path) -> list[Path]:
        name = "stdin" if str(source) == "-" else source.stem
        return [self._path / f"{name}{SUFFIXES[form]}" for form in self._forms]


def _write(file: TextIO, text: str) -> None:
    if not text:
        return
    try:
        file.write(text)
        file.flush()
    except OSError as error:
        raise _unwritable(Path(file.name), error) from None


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}).", advice="Choose another folder."
    )

"""``captiond transcribe`` as a user meets it: where text goes, what is refused, how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile
from captiond import loading
from captiond.cli import main
from captiond.config import Config
from captiond_engine.errors import ConfigError
from captiond_engine.types import Float32Array

from tests.daemon.house import FINAL, audio_of, s16, scripted_engine
from tests.daemon.subtitle_files import read_srt, read_vtt
from tests.sim.scripted import say

ROOT = Path(__file__).parents[2]
SCRIPT = (*say("turn on the lights"), *say("what is the time", at=80_000))
LINES = "turn on the lights\nwhat is the time\n"
PCM = audio_of(SCRIPT)
FORMS = ("text", "json", "srt", "vtt")
SUFFIXES = {"text": ".txt", "json": ".jsonl", "srt": ".srt", "vtt": ".vtt"}


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """A scripted engine in place of a model; the configurations for which one was loaded."""
    configs: list[Config] = []

    def scripted(config: Config, progress: object) -> object:
        configs.append(config)
        return scripted_engine(SCRIPT)

    monkeypatch.setattr(loading, "load_engine", scripted)
    return configs


def transcribe(*arguments: str | Path) -> int:
    """The exit code; errors that __main__ prints are raised."""
    try:
        main(["transcribe", *map(str, arguments)], standalone_mode=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def recording(path: Path, pcm: Float32Array = PCM) -> Path:
    soundfile.write(path, pcm, 16_000)
    return path


def test_a_folder_gets_each_recording_in_each_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("one.flac", "two.b.wav")
    paths = [recording(tmp_path / name) for name in names]
    out = tmp_path / "new" / "folder"
    forms = [part for form in FORMS for part in ("--format", form)]
    assert transcribe(*paths, "-o", out, *forms) == 0
    told = capsys.readouterr()
    assert told.out == ""
    made = sorted(path.name for path in out.iterdir())
    assert made == sorted(f"{stem}{suffix}" for stem in ("one", "two.b") for suffix in SUFFIXES.values())
    for stem in ("one", "two.b"):
        assert (out / f"{stem}.txt").read_text() == LINES
        srt = read_srt((out / f"{stem}.srt").read_text())
        assert srt == read_vtt((out / f"{stem}.vtt").read_text())
        assert [cue.start_ms for cue in srt] == [690, 4_680]  # each counts from its own beginning
        events = [json.loads(line) for line in (out / f"{stem}.jsonl").read_text().splitlines()]
        assert [event["text"] for event in events if event["type"] == FINAL] == LINES.splitlines()
        assert str(out / f"{stem}.txt") in told.err


@pytest.mark.parametrize("form", FORMS)
def test_a_folders_file_is_what_standard_output_would_say(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path / "one.flac")
    assert transcribe(path, "--format", form) == 0
    printed = capsys.readouterr().out
    assert transcribe(path, "--format", form, "--output-dir", tmp_path / "out", "--quiet") == 0
    (file,) = (tmp_path / "out").iterdir()
    written = file.read_text()
    if form == "json":
        epoch = json.loads(printed.splitlines()[0])["epoch"]
        written = written.replace(json.loads(written.splitlines()[0])["epoch"], epoch)
    assert written == printed
    assert capsys.readouterr().err == ""


def test_what_was_in_the_folder_before_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("old " * 100)
    assert transcribe(recording(tmp_path / "one.flac"), "-o", tmp_path) == 0
    assert (tmp_path / "one.txt").read_text() == LINES


def test_texts_that_would_be_written_over_each_other_are_refused_before_a_model_is_loaded(
    tmp_path: Path, loaded: list[Config]
) -> None:
    paths = [recording(tmp_path / name) for name in ("one.flac", "one.wav")]
    with pytest.raises(Exception, match=r"one\.txt") as refused:
        transcribe(*paths, "-o", tmp_path)
    assert getattr(refused.value, "code", "") == "output_unwritable"
    assert loaded == []


def test_a_recording_is_never_written_over(tmp_path: Path, loaded: list[Config]) -> None:
    path = tmp_path / "one.txt"
    recording(tmp_path / "one.wav").rename(path)  # libsndfile looks at what is in it
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"one\.txt"):
        transcribe(path, "-o", tmp_path)
    assert path.read_bytes() == before
    assert loaded == []


def test_a_folder_that_cannot_be_made_is_told_before_a_model_is_loaded(
    tmp_path: Path, loaded: list[Config]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="file/out: cannot be written"):
        transcribe(recording(tmp_path / "one.flac"), "-o", tmp_path / "file" / "out")
    assert loaded == []


def test_a_full_disk_ends_it_with_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "one.txt").symlink_to("/dev/full")
    with pytest.raises(Exception, match=r"one\.txt: cannot be written \(No space left"):
        transcribe(recording(tmp_path / "one.flac"), "-o", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--format", "srt", "--format", "text"], "--output-dir"),
        (["-", "-"], "once"),
        (["--batch", "0"], "batch"),
        (["--format", "pdf"], "pdf"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["transcribe", str(recording(tmp_path / "one.flac")), *arguments])
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def test_a_format_that_is_named_twice_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(recording(tmp_path / "a.wav"), "--format", "text", "--format", "text") == 0
    assert capsys.readouterr().out == LINES


def test_options_are_the_configurations_keys(tmp_path: Path, loaded: list[Config]) -> None:
    transcribe(recording(tmp_path / "a.wav"), "--batch", "7", "--language", "en")
    (config,) = loaded
    assert (config.transcribe.batch, config.model.language) == (7, "en")


def test_a_language_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='language "xx"'):
        transcribe(recording(tmp_path / "a.wav"), "--language", "xx")


def test_a_file_that_breaks_off_is_written_as_far_as_it_goes_and_the_next_one_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole = recording(tmp_path / "broken.flac"), recording(tmp_path / "whole.flac")
    broken.write_bytes(broken.read_bytes()[:-2_000])
    assert transcribe(broken, whole, "-o", tmp_path) == 2
    assert (tmp_path / "broken.txt").read_text() == LINES.splitlines(keepends=True)[0]
    assert (tmp_path / "whole.txt").read_text() == LINES
    assert "broken.flac: cannot be read to its end" in capsys.readouterr().err


def test_the_next_recording_begins_where_the_last_one_really_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where its head says, which a broken one never reaches."""
    broken, whole = recording(tmp_path / "broken.flac"), recording(tmp_path / "whole.flac")
    broken.write_bytes(broken.read_bytes()[:-2_000])
    transcribe(broken, whole, "--format", "srt")
    starts = [cue.start_ms for cue in read_srt(capsys.readouterr().out)]
    assert starts[1] - starts[0] in range(2_000, len(PCM) // 16, 1_000)  # whole blocks were read


# --- standard input ----------------------------------------------------------------------------------


def wav(pcm: Float32Array) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def piped(data: bytes, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """``transcribe -`` with ``data`` coming through a pipe."""
    reader, writer = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=feed)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        feeder.start()
        code = transcribe("-", *arguments)
    feeder.join()
    return code


@pytest.mark.parametrize("data", [s16(PCM), wav(PCM)], ids=["raw", "wav"])
def test_standard_input_is_raw_audio_or_wav(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert piped(data, monkeypatch) == 0
    assert capsys.readouterr().out == LINES
    assert piped(data, monkeypatch, "-o", tmp_path, "--format", "json") == 0
    events = [json.loads(line) for line in (tmp_path / "stdin.jsonl").read_text().splitlines()]
    assert {event["stream"] for event in events} == {"stdin"}


def test_another_container_in_a_pipe_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert piped(recording(tmp_path / "a.flac").read_bytes(), monkeypatch) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "ffmpeg" in told.err


def test_a_file_that_is_redirected_to_standard_input_is_read_like_any_other(tmp_path: Path) -> None:
    with recording(tmp_path / "a.flac").open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-c", QUICK, "transcribe", "-"],
            cwd=ROOT,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, LINES), done.stderr


# --- how it ends -------------------------------------------------------------------------------------

# The whole program with a model that answers its first batch and then, if it is to hang, works without end.
PROGRAM = """
import sys, time
from captiond import loading
from captiond.__main__ import main
from captiond_engine.engine import DeviceThread, Engine
from tests.daemon.test_transcribe_command import SCRIPT
from tests.sim.scripted import ScriptedModel, scripted_traits

class Model(ScriptedModel):
    calls = 0
    def run(self, jobs):
        self.calls += 1
        if {hang} and self.calls > 1:
            print("working", file=sys.stderr, flush=True)
            time.sleep(600)
        return [self.decode(job) for job in jobs]

model = Model(SCRIPT)
engine = Engine(scripted_traits(), model.tokenizer, DeviceThread(model))
loading.load_engine = lambda config, progress: engine
main()
"""
QUICK, HANGING = PROGRAM.format(hang=False), PROGRAM.format(hang=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_it_keeps_what_was_told_and_waits_for_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    path = recording(tmp_path / "talk.flac")
    command = [sys.executable, "-c", HANGING, "transcribe", str(path), "--batch", "1", "--quiet"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "working\n"
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (code, LINES.splitlines(keepends=True)[0])
    assert err == "captiond: stopped at 0:04 of talk.flac; what came before is written.\n"


def test_a_reader_that_goes_away_ends_it_without_a_traceback(tmp_path: Path) -> None:
    path = recording(tmp_path / "talk.flac")
    command = [sys.executable, "-c", QUICK, "transcribe", *[str(path)] * 50, "--format", "json", "--quiet"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr is not None
        err = running.stderr.read()
    assert running.returncode == 1
    assert err == ""


def test_task_and_beams_can_be_said_on_the_command_line(tmp_path: Path, loaded: list[Config]) -> None:
    path = recording(tmp_path / "one.flac")
    assert transcribe(path, "--task", "translate", "--beam-size", "3", "--model", "small") == 0
    [config] = loaded
    assert (config.decoding.task, config.decoding.beam_size) == ("translate", 3)

"""``captiond transcribe`` in a real terminal: results above, below them a line that leaves no trace."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.clients.tmux import Tmux, tmux
from tests.daemon.house import audio_of
from tests.daemon.test_transcribe_command import recording
from tests.sim.scripted import say

# A model that waits, before its second answer and after, for the file that it is told of.
PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from captiond import loading
from captiond.__main__ import main
from captiond_engine.engine import DeviceThread, Engine
from tests.daemon.test_transcribe_terminal import SCRIPT
from tests.sim.scripted import ScriptedModel, scripted_traits

class Model(ScriptedModel):
    calls = 0
    def run(self, jobs):
        self.calls += 1
        while self.calls > 1 and not Path({gate!r}).exists():
            time.sleep(0.01)
        time.sleep(1.1)
        return [self.decode(job) for job in jobs]

model = Model(SCRIPT)
loading.load_engine = lambda config, progress: Engine(scripted_traits(), model.tokenizer, DeviceThread(model))
main()
"""
ROOT = Path(__file__).parents[2]
SCRIPT = tuple(word for n in range(3) for word in say(f"word{n} is said", at=(1 + 20 * n) * 16_000))


def program(folder: Path, *options: str) -> list[str]:
    path = recording(folder / "talk.flac", audio_of(SCRIPT))
    code = PROGRAM.format(root=str(ROOT), gate=str(folder / "gate"))
    return [sys.executable, "-c", code, "transcribe", str(path), "--batch", "1", *options]


def last_row(terminal: Tmux) -> str:
    return terminal.screen()[-1]


async def test_progress_stands_below_what_was_said_and_goes_when_it_is_done(tmp_path: Path) -> None:
    async with tmux(tmp_path, program(tmp_path), columns=80, rows=24) as terminal:
        await terminal.until("word0 is said", "0:20 / 0:42", "real time", "left")
        assert last_row(terminal).startswith("talk.flac  ━")
        await terminal.resize(40, 10)
        await terminal.until("0:20 / 0:42 · ")
        assert len(last_row(terminal)) < 40
        await terminal.resize(80, 24)
        (tmp_path / "gate").touch()
        await terminal.until("ended with 0")
        rows = terminal.everything()
    assert rows[:3] == ["word0 is said", "word1 is said", "word2 is said"]
    assert rows[3].startswith("talk.flac: 0:42 in 0:0")
    assert rows[4:] == ["ended with 0"]


async def test_results_in_a_file_leave_the_line_alone(tmp_path: Path) -> None:
    command = program(tmp_path, "-o", str(tmp_path / "out"))
    async with tmux(tmp_path, command, columns=80, rows=24) as terminal:
        await terminal.until("0:20 / 0:42")
        assert terminal.everything() == [last_row(terminal)]
        assert (tmp_path / "out" / "talk.txt").read_text() == "word0 is said\n"
        (tmp_path / "gate").touch()
        screen = await terminal.until("ended with 0")
    assert screen[0].startswith("talk.flac: 0:42 in")
    assert "out/talk.txt" in "".join(screen)


async def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    async with tmux(tmp_path, program(tmp_path), columns=60, rows=10) as terminal:
        await terminal.until("word0 is said", "0:20 / 0:42")
        terminal.type("C-c")
        await terminal.until("ended with 130")
        terminal.type("typed")
        screen = await terminal.until("typed")
    assert screen[0] == "word0 is said"
    assert screen[1].startswith("captiond: stopped at 0:20 of talk.flac")
    assert not any("━" in row for row in screen)

"""Tables, Markdown and pictures: everything is in them, and nothing breaks them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from engine.bench import long, loop
from engine.bench.compare_report import charts_of, sheets_of
from engine.bench.figures import Figures, batch_figures
from engine.bench.long_sides import Heard
from engine.bench.plot import WIDTH, Bar, BarChart, LineChart, save, to_svg
from engine.bench.sheets import Sheet, show, to_markdown
from tests.bench import made_up

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [entry.name for entry in made_up.rounds()]


@pytest.fixture(scope="module")
def figures() -> Figures:
    batches = {str(rows): batch_figures(made_up.rounds(), rows) for rows in (1, 2)}
    case = {
        "batches": batches,
        "details": {},
        "load_s": {},
        "skipped": {"whisper.cpp int8": "not built: skipped"},
    }
    return {"rounds": 3, "new_tokens": 3, "window_s": 30, "cases": {"tiny": case}}


def test_every_contender_stands_in_each_table_and_who_is_missing_is_told(figures: Figures) -> None:
    sheets = sheets_of(figures)
    *measured, missing = sheets
    assert len(measured) == 5  # times and ratios of two batch sizes, and rows at once
    assert all([row[0] for row in sheet.rows] == NAMES for sheet in measured)
    assert missing.rows == (("whisper.cpp int8", "not built: skipped"),)
    assert all(len(row) == len(sheet.headings) for sheet in sheets for row in sheet.rows)


def test_rows_at_once_tell_what_a_row_costs_and_saves(figures: Figures) -> None:
    batches = next(sheet for sheet in sheets_of(figures) if "rows at once" in sheet.title)
    ours = dict(zip(batches.headings, batches.rows[0], strict=True))
    assert (ours["decode 1"], ours["decode 2"], ours["decode 2 ÷ 1"]) == ("400.0", "200.0", "0.50")


def test_markdown_has_one_row_a_line(figures: Figures) -> None:
    page = to_markdown("bench", "Commit 1234", [Sheet("a", ("", "b"), (("x | y\nz", "1"),), ("a note",))])
    assert page == "# bench\n\nCommit 1234\n\n## a\n\n|  | b |\n| --- | ---: |\n| x \\| y z | 1 |\n\na note\n"
    whole = to_markdown("bench", "", sheets_of(figures))
    assert all(whole.count(f"| {name} |") == 5 for name in NAMES)


def test_a_terminal_shows_brackets_as_they_are() -> None:
    output = StringIO()
    show([Sheet("[t]", ("", "[b]"), (("[red]x", "1"),), ("[note]",))], Console(file=output, width=80))
    assert all(text in output.getvalue() for text in ("[t]", "[b]", "[red]x", "[note]"))


def test_bars_stay_inside_and_names_are_escaped(figures: Figures) -> None:
    odd = BarChart(
        "<a> & b", "ms", ("x", "y"), (Bar("<script>", (1.0, 2.0), 3.0, 2.5, 4.0), Bar("none", (), 0, 0, 0))
    )
    picture = ElementTree.fromstring(to_svg([*charts_of(figures), odd]))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {*NAMES, "<script>", "<a> & b", "3 ms"} <= set(texts)
    for bar in picture.iter(f"{SVG}rect"):
        assert 0 <= (x := float(bar.get("x", 0))) <= x + float(bar.attrib["width"]) <= WIDTH


def test_bars_are_as_long_as_their_values() -> None:
    chart = BarChart("", "ms", ("x",), (Bar("a", (10.0,), 10, 10, 10), Bar("b", (40.0,), 40, 40, 40)))
    bars = [
        r for r in ElementTree.fromstring(to_svg([chart])).iter(f"{SVG}rect") if r.attrib["height"] == "14.0"
    ]
    short, tall = (float(bar.attrib["width"]) for bar in bars)
    assert tall == pytest.approx(4 * short, abs=0.3)


@pytest.mark.parametrize("chart", [BarChart("", "", (), ()), LineChart("", "", "", (1.0,), {"a": (0.0,)})])
def test_nothing_can_be_drawn_too(chart: BarChart | LineChart, tmp_path: Path) -> None:
    for name in ("plot.svg", "plot.html"):
        save(tmp_path / name, [chart], "t")
        text = (tmp_path / name).read_text(encoding="utf-8")
        ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def test_text_that_is_missing_shows() -> None:
    recording = long.Recording("r", made_up_pcm(), "It was cold and wet in the town yesterday evening.")
    said = [
        Heard("captiond, as transcribe", "It was cold and.", 2.0, ((0.0, 1.0),)),
        Heard("openai-whisper, 30 s windows", recording.text, 4.0),
    ]
    found = long.figures_of(recording, said)
    ours, theirs = found["sides"].values()
    assert (ours["wer"], ours["wer_to_openai"], theirs["wer"]) == (60.0, 60.0, 0.0)
    assert (ours["characters"], ours["characters_to_reference"]) == (16, round(16 / 50, 3))
    assert theirs["realtime_factor"] == 0.4
    assert (ours["until_s"], theirs["until_s"]) == (1.0, None)
    assert len(long.sheet_of("r", found).rows) == len(long.texts_sheet("r", found).rows) == 3


def made_up_pcm() -> long.Float32Array:
    return long.np.zeros(160_000, long.np.float32)


def test_recordings_end_with_a_segment_and_have_its_text() -> None:
    found = long.recordings(160.0)
    assert found[0].name == "sample ×4"
    assert 120 < found[0].seconds <= 160
    assert found[0].text.count("The password is two two three one, five.") == 4
    assert all(100 < recording.seconds <= 160 for recording in found)


def test_lateness_is_told_in_milliseconds() -> None:
    found = loop.figures_of([0.001] * 98 + [0.002, 0.025], passes=7)
    assert found == {"ticks": 100, "p50_ms": 1.0, "p99_ms": 2.23, "worst_ms": 25.0, "passes": 7}
    sheet = loop.sheet_of({"model": "m", "settings": {"any core": found}})
    assert dict(zip(sheet.headings, sheet.rows[0], strict=True))["within 20 ms"] == "no"

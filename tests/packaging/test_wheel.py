"""What a user gets: the wheel, built here without network, looked into and run away from the checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from captiond_engine.whisper.cpu import TARGETS

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = "captiond_engine/bundled/demo-en"

hatchling_wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling (extra dev)")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = hatchling_wheel.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_bundled_model_is_inside_with_its_card(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    folder = ROOT / "engine" / BUNDLED
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "vocab.json", "CARD.md"} <= here
    assert {f"{BUNDLED}/{name}" for name in here} <= names
    weights = ROOT / "engine" / BUNDLED / "model.safetensors"
    assert wheel.getinfo(f"{BUNDLED}/model.safetensors").file_size == weights.stat().st_size


def test_graphs_for_the_first_start_are_inside(wheel: zipfile.ZipFile) -> None:
    graphs = [name for name in wheel.namelist() if name.startswith(f"{BUNDLED}/graphs/")]
    assert {Path(name).parent.name for name in graphs} == {target.name for target in TARGETS}
    assert all(name.endswith(".graph.xz") for name in graphs)


def test_the_kernels_are_inside(wheel: zipfile.ZipFile) -> None:
    """As sources: MAX compiles them on the machine that runs them."""
    kernels = {path.name for path in (ROOT / "engine" / "captiond_engine" / "kernels").glob("*.mojo")}
    assert "__init__.mojo" in kernels
    assert {f"captiond_engine/kernels/{name}" for name in kernels} <= set(wheel.namelist())


def test_pages_sample_and_type_marks_are_inside(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    pages = {path.name for path in (ROOT / "clients" / "web").iterdir() if not path.name.startswith(".")}
    assert any(name.endswith(".html") for name in pages)
    assert {f"captiond_clients/web/{name}" for name in pages} <= names
    assert any(name.startswith("captiond_clients/samples/") and name.endswith(".flac") for name in names)
    for package in ("captiond", "captiond_engine", "captiond_clients"):
        assert f"{package}/py.typed" in names


def test_what_install_service_writes_is_inside(wheel: zipfile.ZipFile) -> None:
    service = {
        "captiond.service",
        "captiond.sysusers",
        "captiond.tmpfiles",
        "user/captiond.service",
        "config.toml",
    }
    assert {f"captiond/service/{name}" for name in service} <= set(wheel.namelist())


def test_nothing_but_the_three_packages_is_inside(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    packages = {"captiond", "captiond_engine", "captiond_clients"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    folders = {part for name in wheel.namelist() for part in name.split("/")[:-1]}
    assert not folders & {"tests", "bench", "__pycache__"}


def test_the_metadata_names_licence_python_and_program(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert "captiond = captiond.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_it_runs_away_from_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    script = "import captiond, captiond_clients, captiond_engine.models as m; print(m.find('demo-en'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / BUNDLED


def test_its_benches_ask_for_a_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "captiond", "bench", "engine", "--rounds", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "need a checkout" in done.stderr


def test_the_source_archive_holds_what_make_needs(tmp_path: Path) -> None:
    from hatchling.builders.sdist import SdistBuilder

    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "pyproject.toml", "pixi.toml", "config.toml", ".ci/environment.py"} <= names
    assert "tests/packaging/test_wheel.py" in names

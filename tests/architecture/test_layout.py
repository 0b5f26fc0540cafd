"""The shape of the house: what stands at the top, how large rooms may be, what they are called."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.sources import PACKAGES, ROOT, python_files, shown, tracked, tree

TOP_LEVEL = {
    "daemon",
    "engine",
    "clients",
    "systemd",
    "tests",
    "config.toml",
    "pixi.toml",
    "pyproject.toml",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    "Makefile",
    ".ci",
    ".gitignore",
}
LONGEST_MODULE = 320  # the goal is 60 to 250
LONGEST_FUNCTION = 60  # the goal is about 40
FORBIDDEN_NAMES = {"manager", "handler", "util", "utils", "helper", "helpers", "processor", "chunk", "chunks"}


def words_of(name: str) -> set[str]:
    """``SpeechStarted`` and ``speech_started`` alike: {"speech", "started"}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_only_what_the_architecture_names_stands_at_the_top() -> None:
    assert {name.split("/")[0] for name in tracked()} <= TOP_LEVEL


def test_no_module_is_longer_than_its_cap() -> None:
    lengths = {
        shown(p): p.read_text("utf-8").count("\n") for p in python_files("daemon", "engine", "clients")
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_no_function_is_longer_than_its_cap() -> None:
    long = {
        f"{shown(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION} == {}


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    names = [(path, path.stem) for path in python_files("daemon", "engine", "clients")]
    names += [
        (path, node.name)
        for path in python_files("daemon", "engine", "clients")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    ]
    assert [(shown(path), name) for path, name in names if words_of(name) & FORBIDDEN_NAMES] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        shown(path)
        for path in python_files("daemon", "engine", "clients")
        if tree(path).body and ast.get_docstring(tree(path)) is None
    ]
    assert silent == []


def test_nothing_is_left_to_do_in_the_code() -> None:
    left = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b|raise NotImplemented" r"Error")
    found = [shown(path) for path in python_files() if left.search(path.read_text("utf-8"))]
    assert found == []


def test_no_path_of_a_build_machine_is_written_anywhere() -> None:
    """Neither a home or work folder of some machine, nor where this checkout lies."""
    here = [str(place) for place in (ROOT, ROOT.parent, Path.home()) if len(place.parts) > 2]
    somewhere = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|workspace)/[\w.]")
    found = []
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" in content[:4096]:
            continue
        text = content.decode("utf-8")
        if somewhere.search(text) or any(f"{place}/" in text for place in here):
            found.append(name)
    assert found == []


def test_each_package_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)

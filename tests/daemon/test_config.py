"""Configuration: what is written in a file holds, and what cannot hold is refused by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from captiond.config import SOURCE_KINDS, Config, FileSource
from captiond.config_file import check_files, load, to_toml
from captiond_engine.errors import EXIT_CONFIG, ConfigError

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str) -> Path:
    path = folder / "captiond.toml"
    path.write_text(text)
    return path


def test_the_file_in_the_repository_is_the_defaults() -> None:
    assert load(ROOT / "config.toml") == Config() == load()


def test_the_file_in_the_repository_names_every_key() -> None:
    text = (ROOT / "config.toml").read_text()
    shown = re.findall(r"^(\w+) =", to_toml(load()), re.MULTILINE)
    assert set(shown) <= set(re.findall(r"^(\w+) =", text, re.MULTILINE))
    for entry in text.split("# [[source]]")[1:]:
        told = set(re.findall(r"^# (\w+) =", entry, re.MULTILINE))
        kind = re.findall(r'^# kind = "(\w+)"', entry, re.MULTILINE)[0]
        assert told == {"kind", *SOURCE_KINDS[kind].__struct_fields__}
    assert all(f'kind = "{kind}"' in text for kind in SOURCE_KINDS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1", ["server.prot", "server.port"]),
        ("[sever]\nport = 1", ["sever", "server"]),
        ("silence_ms = 1", ["silence_ms", "segment.silence_ms"]),
        ("[limits]\nsilence_ms = 1", ["limits.silence_ms", "segment.silence_ms"]),
        ("[[source]]\nname = 'a'\npath = 'x'\npaht = 'y'", ["source[0].paht", "path"]),
        ("[log]\nqqq = 1", ["log.qqq", "level"]),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text))
    assert refused.value.exit_code == EXIT_CONFIG
    for word in (*told, "captiond.toml"):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nport = 'http'", "server.port"),
        ("[server]\nport = 70000", "server.port"),
        ("[server]\ninsecure = 1", "server.insecure"),
        ("[model]\ndevice = 'tpu'", "model.device"),
        ("[model]\nname = ''", "model.name"),
        ("[model]\nwindow_final = 'half'", "model.window_final"),
        ("[segment]\nsilence_ms = 150", "segment.post_roll_ms"),
        ("server = 3", "server"),
        ("[[source]]\npath = 'x'", "source[0]"),
        ("[[source]]\nname = 'a b'\npath = 'x'", "source[0].name"),
        ("[[source]]\nname = 'a'\npath = 'x'\nkind = 'radio'", "source[0].kind"),
        ("[[source]]\nname = 'a'\npath = 'x'\n[[source]]\nname = 'a'\npath = 'y'", '"a"'),
        (
            "[limits]\nmax_streams = 1\n[[source]]\nname='a'\npath='x'\n[[source]]\nname='b'\npath='x'",
            "max_streams",
        ),
        ("[server]\nhost = '0.0.0.0'", "server.tokens_file"),
        ("[server]\ncert = 'a.pem'", "server.key"),
        ("not toml", "TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as refused:
        load(written(tmp_path, text))
    assert "`" not in str(refused.value)
    assert "$" not in str(refused.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        load(tmp_path / "nothing.toml")


def test_settings_lie_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 1000\nhost = '::1'")
    settings = ["server.port=2000", "model.name=demo-en", 'model.language="en"', "server.hosts=['a', 'b']"]
    config = load(path, settings)
    assert (config.server.port, config.server.host) == (2000, "::1")
    assert (config.model.name, config.model.language) == ("demo-en", "en")
    assert config.server.hosts == ("a", "b")


@pytest.mark.parametrize(
    "setting", ["server.port", "=1", "server..port=1", "server.port=high", "a.b.c=1", "server=1"]
)
def test_a_wrong_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        load(None, [setting])


def test_what_is_shown_reads_back_the_same(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            '[server]\nhosts = ["quote\\" and \\\\ and \\u007f"]\n'
            "[[source]]\nname = 'a'\npath = '/x'\nrepeat = true\n[[source]]\nname = 'b'\npath = '/y'",
        )
    )
    (tmp_path / "again.toml").write_text(to_toml(config))
    assert load(tmp_path / "again.toml") == config


def test_paths_are_taken_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "[server]\ntokens_file = 't'\nkey = '$SECRETS/k'\ncert = 'c'\n[[source]]\nname = 'a'\npath = '/b.wav'"
    )
    monkeypatch.setenv("SECRETS", "/run/secrets")
    config = load(written(tmp_path, text))
    assert config.server.tokens_file == str(tmp_path / "t")
    assert config.server.key == "/run/secrets/k"
    assert config.source == (FileSource(name="a", path="/b.wav"),)
    with pytest.raises(ConfigError, match=r"server\.tokens_file"):
        check_files(config)


def test_listening_beyond_this_machine_is_possible_when_it_is_said() -> None:
    assert load(None, ["server.host=0.0.0.0", "server.insecure=true"]).server.host == "0.0.0.0"

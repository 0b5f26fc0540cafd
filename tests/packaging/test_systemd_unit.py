"""The units and their installation: what systemd itself says of them, and what is written where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from captiond import install
from captiond.config import Config
from captiond.config_file import load
from captiond_engine.errors import EXIT_CONFIG, EXIT_USAGE, ConfigError
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"system": "etc/systemd/system/captiond.service", "user": "systemd/user/captiond.service"}
MOST_EXPOSED = 2.5
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)"
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(install.command, [str(argument) for argument in arguments])


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    assert run("--prefix", tmp_path).exit_code == 0
    return tmp_path


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return home


def values(unit: Path, key: str) -> list[str]:
    """What a unit says of ``key``, in order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def written(prefix: Path) -> set[str]:
    return {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()}


@needs_systemd
def test_systemd_finds_nothing_to_complain_of(prefix: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", prefix / UNITS["system"]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_nothing_to_complain_of_in_the_users_unit(user_home: Path) -> None:
    assert run("--user").exit_code == 0
    unit = user_home / UNITS["user"]
    command = ["systemd-analyze", "--user", "verify", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_the_service_is_hardly_exposed(prefix: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", prefix / UNITS["system"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Overall exposure level for captiond.service: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


@needs_systemd
def test_its_user_may_use_sound_and_gpus(prefix: Path) -> None:
    sysusers = shutil.which("systemd-sysusers")
    if sysusers is None or os.geteuid():
        pytest.skip("needs systemd-sysusers and root")
    subprocess.run([sysusers, f"--root={prefix}"], capture_output=True, check=True)
    groups = (prefix / "etc/group").read_text()
    for name in ("audio", "video", "render"):
        assert re.search(rf"^{name}:.*captiond", groups, re.MULTILINE)
    user = next(line for line in (prefix / "etc/passwd").read_text().splitlines() if "captiond" in line)
    assert user.split(":")[5:] == ["/var/lib/captiond", "/usr/sbin/nologin"]


def test_the_unit_starts_this_very_installation_with_its_configuration(prefix: Path) -> None:
    (start,) = values(prefix / UNITS["system"], "ExecStart")
    program, *rest = start.split()
    assert rest[-3:] == ["serve", "--config", "/etc/captiond/config.toml"]
    assert Path(program).parent == Path(sys.executable).parent
    done = subprocess.run([program, *rest[:-3], "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("captiond, version ")


@pytest.mark.parametrize("scope", ["system", "user"])
def test_both_units_keep_the_daemons_promises(scope: str, prefix: Path, user_home: Path) -> None:
    assert run("--user").exit_code == 0
    unit = prefix / UNITS["system"] if scope == "system" else user_home / UNITS["user"]
    assert values(unit, "Type") == ["notify"]
    never_again = {int(code) for code in values(unit, "RestartPreventExitStatus")[0].split()}
    assert never_again == {EXIT_USAGE, EXIT_CONFIG}
    assert values(unit, "Restart") == ["on-failure"]
    drain_s = Config().limits.drain_ms / 1000
    assert float(values(unit, "TimeoutStopSec")[0]) >= drain_s + 2
    assert float(values(unit, "WatchdogSec")[0]) >= 10
    assert values(unit, "LimitCORE") == ["0"], "a core dump holds what was said"


def test_what_max_and_gpus_need_is_left_open(prefix: Path) -> None:
    unit = prefix / UNITS["system"]
    assert values(unit, "MemoryDenyWriteExecute") == ["no"]
    assert values(unit, "PrivateDevices") == ["no"]
    assert {"char-alsa rw", "char-nvidia* rw", "char-drm rw"} <= set(values(unit, "DeviceAllow"))
    places = dict(pair.split("=", 1) for pair in values(unit, "Environment"))
    for name in ("CAPTIOND_CACHE_DIR", "MODULAR_CACHE_DIR", "XDG_CACHE_HOME"):
        assert places[name].startswith(f"/var/cache/{values(unit, 'CacheDirectory')[0]}")
    assert places["HF_HOME"].startswith(f"/var/lib/{values(unit, 'StateDirectory')[0]}")


def test_a_credential_that_is_not_there_is_no_fault(prefix: Path) -> None:
    """Only names without a path may be missing (systemd.exec(5), LoadCredential=)."""
    names = values(prefix / UNITS["system"], "LoadCredential")
    assert "captiond.tokens" in names
    assert not [name for name in names if ":" in name]


def test_everything_is_written_below_the_prefix_and_nowhere_else(prefix: Path) -> None:
    assert written(prefix) == {
        *("etc/systemd/system/captiond.service", "etc/sysusers.d/captiond.conf"),
        *("etc/tmpfiles.d/captiond.conf", "etc/captiond/config.toml"),
    }
    assert (prefix / "etc/captiond/config.toml").stat().st_mode & 0o777 == 0o640
    assert (prefix / UNITS["system"]).stat().st_mode & 0o777 == 0o644


def test_the_configuration_is_the_defaults_and_says_what_they_are(prefix: Path) -> None:
    path = prefix / "etc/captiond/config.toml"
    assert load(path) == Config()
    defaults, _, _ = path.read_text().partition("# [[source]]")
    open_keys = re.sub(r"^# (?=\w+ = )", "", defaults, flags=re.MULTILINE)
    path.write_text(open_keys)
    assert load(path) == Config()
    assert "silence_ms = 500" in open_keys


def test_a_second_time_keeps_the_configuration_and_renews_the_unit(prefix: Path) -> None:
    config, unit = prefix / "etc/captiond/config.toml", prefix / UNITS["system"]
    config.write_text("[server]\nport = 1\n")
    unit.write_text("old")
    done = run("--prefix", prefix)
    assert f"left as it is: {config}" in done.stderr
    assert config.read_text() == "[server]\nport = 1\n"
    assert "ExecStart=" in unit.read_text()


def test_a_dry_run_shows_all_and_writes_nothing(tmp_path: Path) -> None:
    done = run("--prefix", tmp_path, "--dry-run")
    assert f"# {tmp_path}/{UNITS['system']}" in done.stdout
    assert "ExecStart=" in done.stdout
    assert written(tmp_path) == set()


def test_a_users_own_folders_have_no_prefix(tmp_path: Path) -> None:
    assert run("--user", "--prefix", tmp_path).exit_code == EXIT_USAGE
    assert written(tmp_path) == set()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file where a folder belongs")
    failed = run("--prefix", tmp_path)
    assert isinstance(failed.exception, ConfigError)
    assert "systemd/system/captiond.service" in str(failed.exception)


def test_what_lies_in_somebodys_home_is_no_system_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, *tmp_path.parents[:-1]):
        monkeypatch.setattr(install, "HIDDEN", (path,))
        monkeypatch.setattr(install, "PACKAGE", tmp_path / "captiond")
        with pytest.raises(ConfigError, match="where a system service cannot look"):
            install.check_reachable()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/opt/captiond/bin/captiond", "/opt/captiond/bin/captiond"),
        ("/opt/my captions/bin", '"/opt/my captions/bin"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("50%", "50%%"),
        ("$HOME", '"$$HOME"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, expected: str) -> None:
    assert install.quoted(word) == expected


def test_commands_that_come_next_are_run_in_order_and_stop_at_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n[ "$1" != enable ]\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Exception, match="'systemctl enable captiond' failed with code 1"):
        install.run(install.next_commands(user=False))
    assert log.read_text().splitlines() == [
        "systemd-sysusers captiond.conf",
        "systemd-tmpfiles --create captiond.conf",
        "systemctl daemon-reload",
        "systemctl enable captiond",
    ]
    assert install.next_commands(user=True)[-1] == [
        *("systemctl", "--user", "restart", "--no-block", "captiond")
    ]

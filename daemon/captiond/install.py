"""``captiond install-service``: the unit and what belongs to it, put where systemd looks for them.

Takes: where to put them, and this interpreter. Gives: files, and the commands that come next, or runs them.
Knows no systemd but its folders and its quoting.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import captiond_engine
import click
from captiond_engine.errors import CaptiondError, ConfigError

import captiond

PACKAGE = Path(captiond.__file__).parent
PLAIN_START = "/usr/bin/captiond "  # in the units as they lie in the package
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))  # from a service with ProtectHome=
PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
KEY = re.compile(r"(?=\w+ = )", re.ASCII)
KEYS_BEGIN = "[server]\n"
CONFIG_HEAD = """\
# captiond's configuration: every key with its default, and a # in front of it. What you change holds after
# `{reload}`, but for server.host, server.port and [model], which need a restart. A key that does
# not exist is refused by name: `captiond config check --config {path}` tells before you reload.

"""


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """One file to be written. ``keep``: one that is there already is the user's own."""

    path: Path
    text: str
    keep: bool = False
    mode: int = 0o644


@click.command("install-service")
@click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Folder that stands for /, for packages and images; nothing is run there.",
)
@click.option("--user", is_flag=True, help="For yourself alone, with your own microphone; no root is needed.")
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
@click.option("--now", is_flag=True, help="Run the next commands too, instead of telling them.")
def command(prefix: Path, user: bool, dry_run: bool, now: bool) -> None:
    """Make captiond a service of systemd.

    Writes the unit, and unless --user is given its user and folders; a configuration where there is none.
    """
    live = prefix == Path("/")
    if user and not live:
        raise click.UsageError("--user writes into your own folders; it has no --prefix.")
    if not user and live and not dry_run:
        check_reachable()
    files = user_files() if user else system_files(prefix)
    if dry_run:
        for file in files:
            print(f"# {file.path}\n{file.text}")
        return
    for file in files:
        write(file)
    if not live:
        return
    commands = next_commands(user=user)
    if now:
        run(commands)
    else:
        print("\nNext:", *(f"  {' '.join(words)}" for words in commands), sep="\n", file=sys.stderr)


def system_files(prefix: Path) -> list[ServiceFile]:
    """The unit, its user, its folders and its configuration under ``prefix``."""
    etc, source = prefix / "etc", service_folder()
    unit = with_start((source / "captiond.service").read_text(encoding="utf-8"), start_words())
    config = config_text("systemctl reload captiond", "/etc/captiond/config.toml")
    return [
        ServiceFile(etc / "systemd/system/captiond.service", unit),
        ServiceFile(etc / "sysusers.d/captiond.conf", (source / "captiond.sysusers").read_text("utf-8")),
        ServiceFile(etc / "tmpfiles.d/captiond.conf", (source / "captiond.tmpfiles").read_text("utf-8")),
        ServiceFile(etc / "captiond/config.toml", config, keep=True, mode=0o640),
    ]


def user_files() -> list[ServiceFile]:
    """The unit and its configuration in the user's own folders."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    unit = (service_folder() / "user" / "captiond.service").read_text(encoding="utf-8")
    config = config_text("systemctl --user reload captiond", str(home / "captiond/config.toml"))
    return [
        ServiceFile(home / "systemd/user/captiond.service", with_start(unit, start_words())),
        ServiceFile(home / "captiond/config.toml", config, keep=True, mode=0o600),
    ]


def next_commands(*, user: bool) -> list[list[str]]:
    """What makes systemd know the service and start it, in order."""
    if user:
        systemctl = ["systemctl", "--user"]
        before: list[list[str]] = []
    else:
        systemctl = ["systemctl"]
        before = [["systemd-sysusers", "captiond.conf"], ["systemd-tmpfiles", "--create", "captiond.conf"]]
    started = [*systemctl, "restart", "--no-block", "captiond"]
    return [*before, [*systemctl, "daemon-reload"], [*systemctl, "enable", "captiond"], started]


def run(commands: list[list[str]]) -> None:
    """Run them one after another. Raises CaptiondError at the first that fails."""
    for words in commands:
        print(f"running {' '.join(words)}", file=sys.stderr)
        try:
            code = subprocess.run(words, check=False).returncode
        except OSError as error:
            raise CaptiondError(f"{words[0]} cannot be run ({error.strerror}).") from None
        if code:
            raise CaptiondError(
                f"'{' '.join(words)}' failed with code {code}; what comes after it was not run."
            )
    print("The service is starting: `systemctl status captiond` tells how it goes.", file=sys.stderr)


def write(file: ServiceFile) -> None:
    """Write one file and say so. Raises ConfigError."""
    if file.keep and file.path.exists():
        print(f"left as it is: {file.path}", file=sys.stderr)
        return
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.path.with_name(f".{file.path.name}.{os.getpid()}")
        temporary.write_text(file.text, encoding="utf-8")
        temporary.chmod(file.mode)
        temporary.replace(file.path)
    except OSError as error:
        raise ConfigError(
            f"{file.path} cannot be written ({error.strerror or error}).",
            advice="Run it as root, for yourself alone with --user, or into another folder with --prefix.",
        ) from None
    print(f"wrote {file.path}", file=sys.stderr)


def service_folder() -> Path:
    """Where the units lie: inside the package in a wheel, beside it in a checkout."""
    inside = PACKAGE / "service"
    return inside if inside.is_dir() else PACKAGE.parents[1] / "systemd"


def config_text(reload: str, path: str) -> str:
    """The documented configuration with every key commented out, so that later defaults hold."""
    inside = PACKAGE / "service" / "config.toml"
    source = inside if inside.is_file() else PACKAGE.parents[1] / "config.toml"
    text = source.read_text(encoding="utf-8")
    lines = text[text.index(KEYS_BEGIN) :].splitlines()
    commented = "\n".join("# " + line if KEY.match(line) else line for line in lines)
    return CONFIG_HEAD.format(reload=reload, path=path) + commented + "\n"


def start_words() -> list[str]:
    """The command line of this very installation."""
    program = Path(sys.executable).with_name("captiond")
    if os.access(program, os.X_OK):
        return [str(program)]
    return [sys.executable, "-P", "-m", "captiond"]  # -P: the working folder holds no modules of ours


def with_start(unit: str, words: list[str]) -> str:
    """``unit`` with ExecStart= of ``words``."""
    return unit.replace(f"ExecStart={PLAIN_START}", f"ExecStart={' '.join(map(quoted, words))} ", 1)


def quoted(word: str) -> str:
    """One word of a command line as systemd reads it (systemd.service(5), systemd.unit(5))."""
    word = word.replace("%", "%%")
    if PLAIN_WORD.fullmatch(word):
        return word
    word = word.replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{word}"'


def check_reachable() -> None:
    """A system service sees nobody's home. Raises ConfigError where captiond itself lies in one."""
    for place in (
        PACKAGE,
        Path(captiond_engine.__file__).parent,
        Path(sys.executable),
        Path(sys.base_prefix),
    ):
        for path in (place, place.resolve()):
            closed = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]
            if closed or any(path.is_relative_to(home) for home in HIDDEN):
                raise ConfigError(
                    f"captiond runs from {path}, where a system service cannot look.",
                    advice="Install it for all, such as with 'python3 -m venv /opt/captiond' and its pip, "
                    "and run /opt/captiond/bin/captiond install-service; or use --user.",
                )

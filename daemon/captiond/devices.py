"""``captiond devices``: what this machine can hear with. Takes nothing, gives a table, or JSON.

Exit code 69 where there is no input device, 78 where PortAudio is not installed. Knows no daemon.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click
import msgspec

from captiond.capture.inputs import CaptureError, InputDevice
from captiond.capture.portaudio import PortAudio

RATES_HZ = (16_000, 44_100, 48_000)  # ours, and the two that sound cards have
NO_INPUT = CaptureError(
    "There is no input device that can be used here.",
    advice="Is one plugged in? Without a sound server its user must be in the group audio.",
)

Found = Sequence[tuple[InputDevice, tuple[int, ...]]]


@click.command("devices")
@click.option("--json", "as_json", is_flag=True, help="A list of objects on standard output.")
def command(as_json: bool) -> None:
    """List the microphones and other input devices of this machine.

    The number or a part of the name goes into a [[source]] of kind "microphone", or after --device.
    """
    found = asyncio.run(PortAudio().inputs(RATES_HZ))
    if as_json:
        print(to_json(found))
    elif found:
        print(to_text(found))
        print("* the default device", file=sys.stderr)
    if not found:
        raise NO_INPUT


def to_json(found: Found) -> str:
    rows = [
        {
            "index": device.index,
            "name": device.name,
            "host_api": device.host_api,
            "channels": device.channels,
            "rate_hz": device.rate_hz,
            "takes_hz": rates_hz,
            "default": device.is_default,
        }
        for device, rates_hz in found
    ]
    return msgspec.json.encode(rows).decode()


def to_text(found: Found) -> str:
    """One line a device; the default has a star. A device that is busy takes no rate at all."""
    rows = [("", "no.", "name", "host API", "channels", "own rate", "takes")]
    for device, rates_hz in found:
        rows.append(
            (
                "*" if device.is_default else "",
                str(device.index),
                device.name,
                device.host_api,
                str(device.channels),
                str(device.rate_hz),
                " ".join(map(str, rates_hz)) or "nothing now",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)

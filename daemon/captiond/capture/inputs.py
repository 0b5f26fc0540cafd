"""Which input devices there are, which one is meant, and how it is best opened.

Takes: the module ``sounddevice`` (or what looks like it) and what the configuration says. Gives: devices, a
rate and a number of channels, or a CaptureError that lists what there is. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from captiond_engine.errors import EXIT_UNREACHABLE, CaptiondError, ConfigError
from captiond_engine.types import SAMPLE_RATE_HZ

# After 16 kHz and the device's own rate: what sound cards have, the common ones first.
OTHER_RATES_HZ = (48_000, 44_100, 32_000, 96_000, 24_000, 22_050, 88_200, 192_000, 8_000)
INVALID_RATE = -9997  # portaudio.h: paInvalidSampleRate
# A device that claims more is a sound server or a plugin (PulseAudio says 32, PipeWire 64, ALSA's own 128),
# which makes one channel of those that there are when it is asked for one.
MOST_CHANNELS = 24


class CaptureError(CaptiondError):
    """A device that is not there, not free or gone. It may come back."""

    code = "microphone_failed"
    exit_code = EXIT_UNREACHABLE


class CaptureInterruptedError(CaptureError):
    """Nothing is wrong with the device: another one can be found only while none is open. Open it again."""

    code = "microphone_interrupted"


class PortAudioMissingError(ConfigError):
    """The library is not installed; trying again will not help."""

    code = "portaudio_missing"


@dataclass(frozen=True, slots=True)
class InputDevice:
    """``index``: PortAudio's, until the next scan. ``channels``: the most that it takes."""

    index: int
    name: str
    host_api: str
    channels: int
    rate_hz: int  # the device's own
    is_default: bool

    @property
    def full_name(self) -> str:
        return f"{self.name}, {self.host_api}"


def list_inputs(sounddevice: Any) -> list[InputDevice]:
    """Every device that has an input, as of the last scan."""
    host_apis = sounddevice.query_hostapis()
    default = _default_index(sounddevice)
    return [
        InputDevice(
            index=index,
            name="".join(c if c.isprintable() else "?" for c in found["name"]),  # a stranger's words
            host_api=str(host_apis[found["hostapi"]]["name"]),
            channels=int(found["max_input_channels"]),
            rate_hz=round(found["default_samplerate"]),
            is_default=index == default,
        )
        for index, found in enumerate(sounddevice.query_devices())
        if found["max_input_channels"] > 0
    ]


def choose(inputs: Sequence[InputDevice], wanted: str | int) -> InputDevice:
    """The device whose number is ``wanted``, or whose name holds it; "": the default. Raises CaptureError.

    A name that is met in full goes before those that only hold it.
    """
    if not inputs:
        raise CaptureError("There is no input device on this machine.")
    if isinstance(wanted, int):
        found = [device for device in inputs if device.index == wanted]
        what = f"no input device has the number {wanted}"
    elif wanted:
        text = wanted.lower()
        found = [device for device in inputs if text in device.full_name.lower()]
        exact = [device for device in found if text in (device.name.lower(), device.full_name.lower())]
        found = exact if len(exact) == 1 else found
        what = f'no input device is named "{wanted}"'
    else:
        found = [device for device in inputs if device.is_default]
        what = "there is no default input device"
    if len(found) == 1:
        return found[0]
    if found:
        what = f'"{wanted}" is in the names of {len(found)} input devices: {_listed(found)}'
        raise CaptureError(f"{what}.", advice="Say more of the name, or its number.")
    raise CaptureError(f"{what[0].upper()}{what[1:]}.", advice=f"There is {_listed(inputs)}.")


def channels_to_open(device: InputDevice, channel: int) -> int:
    """How many channels of ``device`` must be open to hear ``channel``, or the mean of all (0).

    Raises CaptureError where there is no such channel.
    """
    if channel > device.channels:
        raise CaptureError(f"{device.full_name} has no channel {channel}, only {device.channels}.")
    return channel or (device.channels if device.channels <= MOST_CHANNELS else 1)


def choose_rate(sounddevice: Any, device: InputDevice, channels: int) -> int:
    """The rate at which ``device`` is opened: ours, else its own, else one that it takes.

    Raises CaptureError where it takes none, and PortAudioError where the rate is not what it objects to.
    """
    for rate_hz in dict.fromkeys((SAMPLE_RATE_HZ, device.rate_hz, *OTHER_RATES_HZ)):
        if takes_rate(sounddevice, device, channels, rate_hz):
            return rate_hz
    raise CaptureError(f"{device.full_name} takes none of the rates that are spoken here.")


def rates_of(sounddevice: Any, device: InputDevice, rates_hz: Sequence[int]) -> tuple[int, ...]:
    """Those of ``rates_hz`` that ``device`` takes now; none where it is not free."""
    try:
        return tuple(rate_hz for rate_hz in rates_hz if takes_rate(sounddevice, device, 1, rate_hz))
    except sounddevice.PortAudioError:
        return ()


def takes_rate(sounddevice: Any, device: InputDevice, channels: int, rate_hz: int) -> bool:
    """Raises PortAudioError where the rate is not what ``device`` objects to."""
    try:
        sounddevice.check_input_settings(
            device=device.index, channels=channels, dtype="float32", samplerate=rate_hz
        )
    except sounddevice.PortAudioError as error:
        if error.args[1:2] != (INVALID_RATE,):
            raise
        return False
    return True


def reason_of(error: Exception) -> str:
    """PortAudio's own words, without its number and without what we were doing."""
    return str(error.args[0] if error.args else error).rpartition(": ")[2].strip().rstrip(".")


def _default_index(sounddevice: Any) -> int | None:
    try:
        return int(sounddevice.query_devices(kind="input")["index"])
    except (sounddevice.PortAudioError, ValueError):
        return None


def _listed(inputs: Iterable[InputDevice]) -> str:
    return ", ".join(f'{device.index} "{device.full_name}"' for device in inputs)

"""Whether the configured microphones are there. Opens none, so that a daemon that listens keeps its own."""

from __future__ import annotations

from captiond_engine.errors import CaptiondError

from captiond.capture.inputs import PortAudioMissingError, channels_to_open, choose
from captiond.capture.portaudio import PortAudio
from captiond.config import Config, MicrophoneSource
from captiond.doctor.finding import Finding, fail, failed, ok, warn


async def microphones(config: Config) -> list[Finding]:
    wanted = [source for source in config.source if isinstance(source, MicrophoneSource)]
    try:
        inputs = [device for device, _ in await PortAudio().inputs()]
    except PortAudioMissingError as error:
        if wanted:
            return [failed("microphone", error)]
        return [warn("microphone", error.message, error.advice)]
    except CaptiondError as error:
        return [failed("microphone", error)] if wanted else [warn("microphone", error.message, error.advice)]
    findings = []
    for source in wanted:
        try:
            device = choose(inputs, source.device)
            channels_to_open(device, source.channel)
        except CaptiondError as error:
            text = f"source {source.name}: {error.message}"
            findings.append(fail("microphone", text, error.advice, exit_code=error.exit_code))
        else:
            findings.append(ok("microphone", f"source {source.name}: {device.full_name}."))
    if not wanted:
        number = len(inputs)
        findings.append(
            ok("microphone", f"None is configured; this machine has {number} input{'s' * (number != 1)}.")
        )
    return findings

"""Who speaks the training text: Debian's speech programs, their voices, and those that are kept for tests.

espeak-ng (formants), flite and festival (diphones, clustergen, HTS), SVOX Pico. Each voice is bent by chance
in tempo and pitch; `Voice.name` is told with every utterance, so that an evaluation knows which voices were
heard in training.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACCENTS = [
    *["en-us"] * 5,
    *["en-gb"] * 2,
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
]
VARIANTS = [
    *["", ""],
    *"m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Alicia Andrea Andy Denis Diogo Gene Gene2".split(),
    *"Jacky Lee Marco Mario Michael Mike Nguyen adam anika antonio aunty belinda benjamin".split(),
    *"caleb david ed edward grandma grandpa john michel miguel norbert pablo paul pedro rob".split(),
    *"robert sandro Henrique boris shelby steph travis victor zac klatt klatt2 klatt4".split(),
]
KEPT_ACCENTS = ["en-gb-scotland", "en-us"]
KEPT_VARIANTS = "Annie Hugo max linda quincy steph2".split()
FLITE_PITCH_HZ = {"kal16": 105, "awb": 135, "rms": 95, "slt": 165}
FESTIVAL = ["kal_diphone", "cmu_us_slt_arctic_hts", "cmu_us_slt_arctic_hts"]
FESTIVAL_SECONDS = 200


@dataclass(frozen=True)
class Voice:
    program: str
    name: str
    tempo: float  # espeak-ng: words a minute; flite, festival: stretch; pico: percent
    pitch: float  # espeak-ng: 0 to 99; flite: factor of the voice's own; pico: percent; festival: unused


def heard(r: random.Random) -> Voice:
    """A voice for training."""
    chance = r.random()
    if chance < 0.36:
        variant = r.choice(VARIANTS)
        name = r.choice(ACCENTS) + (f"+{variant}" if variant else "")
        return Voice("espeak", name, r.randint(115, 210), r.randint(15, 85))
    if chance < 0.68:
        name = r.choice(["kal16", "awb", "rms", "slt", "rms", "slt", "awb"])
        return Voice("flite", name, r.uniform(0.75, 1.35), r.uniform(0.8, 1.2))
    if chance < 0.86:
        return Voice("pico", r.choice(["en-US", "en-GB"]), r.randint(75, 130), r.randint(75, 125))
    return Voice("festival", r.choice(FESTIVAL), r.uniform(0.8, 1.25), 0)


def kept(r: random.Random) -> Voice:
    """A voice that nobody trains on."""
    if r.random() < 0.5:
        name = f"{r.choice(KEPT_ACCENTS)}+{r.choice(KEPT_VARIANTS)}"
        return Voice("espeak", name, r.randint(130, 185), r.randint(30, 70))
    return Voice("festival", "ked_diphone", r.uniform(0.9, 1.2), 0)


def speak(text: str, voice: Voice, wav: Path) -> None:
    """Writes `wav`. Raises `subprocess.SubprocessError` or `OSError` where the program fails or is not
    installed.
    """
    v = voice
    if v.program == "espeak":
        command = [
            "espeak-ng",
            "-v",
            v.name,
            "-s",
            f"{v.tempo:.0f}",
            "-p",
            f"{v.pitch:.0f}",
            "-w",
            str(wav),
            text,
        ]
    elif v.program == "flite":
        hertz = FLITE_PITCH_HZ[v.name] * v.pitch
        bent = ["--setf", f"duration_stretch={v.tempo:.2f}", "--setf", f"int_f0_target_mean={hertz:.0f}"]
        command = ["flite", "-voice", v.name, *bent, "-t", text, "-o", str(wav)]
    else:
        bent_text = f"<speed level='{v.tempo:.0f}'><pitch level='{v.pitch:.0f}'>{text}</pitch></speed>"
        command = ["pico2wave", "-l", v.name, "-w", str(wav), bent_text]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=True)


def speak_with_festival(told: list[tuple[str, Voice, Path]], script: Path) -> None:
    """Festival takes long to start, so it speaks many utterances in one run. What it could not speak has no
    file.
    """
    lines = [
        f"(voice_{voice.name})\n(Parameter.set 'Duration_Stretch {voice.tempo:.2f})\n"
        f'(set! u (Utterance Text "{text}"))\n(utt.synth u)\n(utt.save.wave u "{wav}" \'riff)\n'
        for text, voice, wav in told
    ]
    script.write_text("".join(lines))
    command = ["festival", "--batch", str(script)]
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=FESTIVAL_SECONDS, check=False
    )

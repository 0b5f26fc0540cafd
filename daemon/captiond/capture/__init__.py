"""Sound from a device of this machine: PortAudio at one end, 16 kHz audio its holes told at the other."""

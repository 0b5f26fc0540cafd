"""Audio inside containers (WebM, Ogg, MP4, ...) and behind addresses (RTSP, HLS, Icecast), through PyAV.

Media parsers are large, written in C, and fed by strangers, so they run in a child process of their own
that may do next to nothing. ``decoder`` and ``child`` are the daemon's side. ``decode`` is the child's
program; ``opening``, ``sound``, ``web``, ``confinement``, ``syscalls`` and ``landlock`` are its parts.
``framing`` is what the two say to each other, ``media`` what they agree on. The child imports neither MAX
nor NumPy nor asyncio.
"""

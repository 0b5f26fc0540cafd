"""whisper.cpp through the C interface of the library that the PyPI package pywhispercpp brings.

Takes a file of ``ggml.py``. The package's wheels are built for AVX2; one built here
(``pip install --no-binary pywhispercpp pywhispercpp``) uses what this processor has, and CAPTIOND_WHISPER_CPP
may name another ``libwhisper.so``. ``detail`` says what it was built for. Functions and their arguments:
whisper.cpp's ``include/whisper.h``. Files of float32 load and then end the process: its convolution takes
float16 kernels only (whisper.cpp issue 2557; so in version 1.8.5 too).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from ctypes import POINTER, c_char_p, c_float, c_int, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from captiond_engine.types import Float32Array

from engine.bench.cases import Case

LIBRARY = "CAPTIOND_WHISPER_CPP"
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "whisper_log_set": (None, [c_void_p, c_void_p]),
    "whisper_print_system_info": (c_char_p, []),
    "whisper_init_from_file_no_state": (c_void_p, [c_char_p]),
    "whisper_init_state": (c_void_p, [c_void_p]),
    "whisper_n_vocab": (c_int, [c_void_p]),
    "whisper_pcm_to_mel_with_state": (c_int, [c_void_p, c_void_p, POINTER(c_float), c_int, c_int]),
    "whisper_encode_with_state": (c_int, [c_void_p, c_void_p, c_int, c_int]),
    "whisper_decode_with_state": (c_int, [c_void_p, c_void_p, POINTER(c_int), c_int, c_int, c_int]),
    "whisper_get_logits_from_state": (POINTER(c_float), [c_void_p]),
}
_SILENT = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(lambda level, text, data: None)


class WhisperCppMissingError(Exception):
    """There is no libwhisper here, or it does not take our file."""


class WhisperCpp:
    """Greedy, one row after another: its interface decodes one window at a time. A state for each row."""

    def __init__(self, threads: int, case: Case, path: Path) -> None:
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # where it gives up, one line is enough
        self._case, self._threads, self._library = case, threads, _library()
        said = self._library.whisper_print_system_info().decode()
        self.detail = " ".join(re.findall(r"(\w+) = 1", said))
        self._context = self._library.whisper_init_from_file_no_state(str(path).encode())
        if not self._context:
            raise WhisperCppMissingError(f"whisper.cpp does not read {path.name}")
        self._states: list[int] = []

    def features(self, pcm: Float32Array) -> Any:
        """Mels stay inside the states; gives these."""
        while len(self._states) < len(pcm):
            self._states.append(self._library.whisper_init_state(self._context))
        states = self._states[: len(pcm)]
        for state, row in zip(states, pcm, strict=True):
            samples = np.ascontiguousarray(row).ctypes.data_as(POINTER(c_float))
            self._call("whisper_pcm_to_mel_with_state", state, samples, len(row), self._threads)
        return states

    def encode(self, features: Any) -> Any:
        for state in features:
            self._call("whisper_encode_with_state", state, 0, self._threads)
        return features

    def decode(self, encoded: Any) -> list[list[int]]:
        return [self._decode_one(state) for state in encoded]

    def _decode_one(self, state: int) -> list[int]:
        said: list[int] = []
        fed, position, vocabulary = list(self._case.prompt), 0, self._case.config.n_vocab
        for _ in range(self._case.new_tokens):
            tokens = (c_int * len(fed))(*fed)
            self._call("whisper_decode_with_state", state, tokens, len(fed), position, self._threads)
            position += len(fed)
            pointer = self._library.whisper_get_logits_from_state(state)
            # [tokens fed, V], of which only the last row is filled in.
            logits = np.ctypeslib.as_array(pointer, shape=(len(fed), vocabulary))[-1]
            logits[list(self._case.blocked)] = -np.inf
            said.append(int(logits.argmax()))
            fed = said[-1:]
        return said

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(self._context, *arguments) != 0:
            raise RuntimeError(f"{name} failed")


def _library() -> Any:
    """libwhisper with its functions declared. Raises WhisperCppMissingError."""
    path = _path()
    try:
        for name in ("libggml-base.so", "libggml-cpu.so", "libggml.so"):
            if (path.parent / name).exists():  # one built here does not know where these lie
                ctypes.CDLL(str(path.parent / name), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise WhisperCppMissingError(str(error)) from error
    library.whisper_log_set(_SILENT, None)
    return library


def _path() -> Path:
    if LIBRARY in os.environ:
        return Path(os.environ[LIBRARY])
    module = importlib.util.find_spec("_pywhispercpp")
    if module is None or module.origin is None:
        raise WhisperCppMissingError("pywhispercpp is not installed")
    folder = Path(module.origin).parent
    # Wheels from PyPI bring their libraries in a folder of their own; one built here, beside the module.
    found = [*folder.glob("pywhispercpp.libs/libwhisper*.so*"), *folder.glob("libwhisper.so*")]
    if not found:
        raise WhisperCppMissingError(f"there is no libwhisper in {folder}")
    return found[0]

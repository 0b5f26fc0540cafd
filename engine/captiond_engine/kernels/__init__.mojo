"""Whisper for CPUs: the decoder as a few serial operations over rows, made to read each weight once, and the parts of
the encoder that take longest.

A row is `(token, slot, position, wants)`, int32. Its slot says which stream's keys and values it sees, and it
sees its own position and those before. So rows of several streams, of a prompt or of one new token each, share
a call without masks or padding. `wants` is 1 where a next token is to be chosen, plus 2 at start-of-transcript.

| module | what it holds |
|---|---|
| `vectors` | memory and lanes; layer norm; rounding to 8 bits |
| `packed` | the layout of weights, and a product of a few rows with one block of them |
| `project` | linear layers: norm before, GELU or residual after |
| `likely` | logits of float32 from bfloat16, exact where they may matter |
| `attention` | self-attention over a slot's cache, cross-attention over what its seat heard |
| `encode` | self-attention of all positions of a window |
| `tokens` | the two ends: embedding, and the choice of the next token |

A few rows run on the thread that calls: handing work to a pool costs more than most of the work. With HANDS = 2,
layers and encoder output of many bytes are read by two threads (see `vectors`). The encoder's many rows are shared by
HANDS threads.
Sizes are checked by the caller in Python; rows are checked here as well before anything is written.

WIDTH, lanes of 32 bits, is chosen by the caller: 16 needs AVX-512 with VNNI, 8 needs AVX2, 4 runs anywhere.
"""

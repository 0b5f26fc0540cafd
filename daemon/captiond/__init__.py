"""captiond: the daemon. Edges, wiring and configuration; the engine does the listening."""

import os

__version__ = "0.1.0"

# NumPy makes the spectra on the event loop, between two batches. Threads of OpenBLAS's own would wait there
# for the cores that the model computes on; one alone takes a third of the processor time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

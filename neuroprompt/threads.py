"""Threads that sleep while they wait: imported before torch, at the head of whatever starts a process.

OpenMP's threads wait for one another by spinning, which is fast where each has a core to itself. Where one does not,
they spin on the core that it needs, and beside another busy process a program gets several times slower
(`benchmarks/threads.py`). The library that torch brings reads how to wait as it is loaded. What the user has set stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# NumPy's library spins, too, for a fifth of a second by default; it reads the power of two of processor cycles.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

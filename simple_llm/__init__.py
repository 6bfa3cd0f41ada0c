"""Train small transformers on exact arithmetic, and prove what they learned."""

import os

__version__ = "0.1.0"

# OpenMP reads this as torch is imported: how often a thread that waits for the others looks on before it sleeps. By
# default that takes milliseconds, of the time of those that it waits for where others use the cores too. The products
# of decoding are microseconds apart: with 1,000 looks a thread sleeps between them, and is late (docs/LOG.md).
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
if not any(name in os.environ for name in WAITING):
    os.environ["GOMP_SPINCOUNT"] = "1500"

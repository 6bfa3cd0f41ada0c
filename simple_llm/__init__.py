"""Train small transformers on exact arithmetic, and prove what they learned."""

import os

__version__ = "0.1.0"

# GNU's OpenMP, which torch has on Linux, reads this as torch is imported: how often a thread that waits for the others
# looks before it sleeps. Its own default is milliseconds of looking, which takes a shared core from those that are
# waited for. With too few looks a thread sleeps between the small products of decoding too, and is late each time.
# docs/LOG.md has the measurements.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
if not any(name in os.environ for name in WAITING):
    os.environ["GOMP_SPINCOUNT"] = "1500"

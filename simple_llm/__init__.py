"""Train small transformers on exact arithmetic, and prove what they learned."""

import os

__version__ = "0.1.0"

# OpenMP reads this as torch is imported. A thread that waits for the others looks on for microseconds and then sleeps.
# By default it looks on for so long that, on cores which others use too, it takes the time of those that it waits for.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
if not any(name in os.environ for name in WAITING):
    os.environ["GOMP_SPINCOUNT"] = "20000"

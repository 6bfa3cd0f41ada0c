"""The long version of the fault tests; see __main__.py."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process that forks has one thread

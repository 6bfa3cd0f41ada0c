"""Train small transformers on exact arithmetic, and prove what they learned."""

__version__ = "0.1.0"

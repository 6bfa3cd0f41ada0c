"""The page that calculates in the browser: `python3 -m web.build` makes it of a model folder."""

import simple_llm  # noqa: F401  (before torch, for which it sets how threads wait)

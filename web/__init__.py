"""The page that calculates in the browser: `python3 -m web.build` makes it of a model folder."""

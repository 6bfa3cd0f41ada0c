"""The page that adds in the browser: `python3 -m web.build` makes it of a model folder."""

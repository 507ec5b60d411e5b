"""The paper's figures and tables, one folder for each: `compute.py` makes the result in `result.py`, `plot.py` draws it."""

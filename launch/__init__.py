"""What starts distcel: `cluster.py` one run, `reproduce.py` the paper's evaluation over several."""

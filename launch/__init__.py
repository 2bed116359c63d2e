"""What starts distcel: `cluster.py` on this machine or on a running Ray cluster."""

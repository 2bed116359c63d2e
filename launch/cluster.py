"""`distcel search` from a checkout: python launch/cluster.py --dataset NAME --data-dir DIR."""

import sys

from distcel.cli.main import script

if __name__ == "__main__":
    sys.exit(script("search", "cluster.py"))

"""`distcel reproduce` from a checkout: python launch/reproduce.py --seeds N."""

import sys

from distcel.cli.main import script

if __name__ == "__main__":
    sys.exit(script("reproduce", "reproduce.py"))

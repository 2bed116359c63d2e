"""The command line: flags, subcommands, signals, exit statuses and what the terminal shows.

Each subcommand has a module, with its flags and its `run`. This room may import every other one,
and imports what is heavy inside the function that needs it; only the scripts in `launch/` import
from it.
"""

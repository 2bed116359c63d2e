"""The command line: flags, subcommands, signals, exit statuses and what the terminal shows.

One module a subcommand, with its flags and its `run`. It may import every other room, and imports
what is heavy inside the function that needs it; nothing imports it but the scripts in `launch/`.
"""

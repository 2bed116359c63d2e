"""How predictions are combined into one: e2e-CEL, the paper's rules and those set beside them.

A rule is one `Rule` in `untrained` or `trained`; `registry` lists all.
Imports from `search` and the rooms below it alone.
"""

"""What `import distcel` offers: `fit`, `compare`, `reproduce`, and the run that they return.

This room prints nothing and installs no signal handlers: it logs to the logger `distcel`, and a
KeyboardInterrupt leaves a run that the same call continues. It imports from every room but `cli`.
"""

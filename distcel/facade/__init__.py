"""What `import distcel` offers: `fit`, `compare`, `reproduce`, and the run that they return.

There are no prints and no signal handlers here: the `distcel` logger reports, and a
KeyboardInterrupt leaves a run that the same call carries on. It imports from every room but `cli`.
"""

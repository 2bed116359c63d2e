"""What a user chooses: experiments, recipes, the search space, and the errors that refuse them.

It imports from no other room, and neither torch nor Ray.
"""

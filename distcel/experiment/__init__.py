"""What a user chooses: experiments, recipes, the search space, and the errors that refuse them.

This room imports from no other one, and neither torch nor Ray.
"""

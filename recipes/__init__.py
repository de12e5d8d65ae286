"""How each model of the family is trained: one command each, resumable at any step.

Every film is held out: training panels are drawn from a random source of their own, so films only
ever measure.
"""

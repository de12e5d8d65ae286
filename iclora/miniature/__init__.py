"""The film renderer, the recipes that train the small family, and its weights.

``world`` holds the few attributes of the film world and its scripts, ``draw`` makes pictures of
them, ``film`` writes real video files, ``captions`` says what is on a panel. ``family`` builds the
model folders with random weights; ``recipes`` trains them.
"""

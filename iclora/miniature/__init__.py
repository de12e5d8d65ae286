"""Film renderer, the small model family and its weights.

``world`` defines the attributes of the film world, ``script`` its films; ``draw`` renders pictures,
``film`` writes video files, ``captions`` describes panels. ``family`` builds the model folders with
random weights; the repository's ``recipes`` train them.
"""

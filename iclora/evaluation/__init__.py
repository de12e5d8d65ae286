"""Measurement of an adapter's renders against the base, the champion, and controls.

Every score can be gamed, so each is reported with a counter-score, on prompts excluded from
training, with confidence intervals, and with controls that must fail. ``iclora.evaluate`` runs it.
"""

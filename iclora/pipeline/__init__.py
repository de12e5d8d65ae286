"""Stages, executors, progress and the ledger; nothing here knows what a stage does."""

"""The only door that loads weights: by name, folder or hub id; each model once per process."""

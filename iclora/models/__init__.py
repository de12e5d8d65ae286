"""Loading of model weights by name, folder, or hub id; each model once per process."""

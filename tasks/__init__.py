"""Policy around the library's functions: retries, limits, names in the UI, artifacts."""

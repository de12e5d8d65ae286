"""Policy around the library's functions: retries, limits, names in the UI, artifacts."""

import logging

# Prefect's settings name the loggers whose lines reach a run's log, but not their level: without
# this everything below WARNING, progress included, would stop at the root logger's.
logging.getLogger("iclora").setLevel(logging.INFO)

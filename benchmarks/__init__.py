"""Speed, side by side with the libraries. Run them as `python -m benchmarks.NAME` from the root of the repository."""

from pipeline.core.device import prepare_threads

# Before anything imports torch: its threads read this once, when they start.
prepare_threads()

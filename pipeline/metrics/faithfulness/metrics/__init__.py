"""Faithfulness metrics, one file each; a file with a ``METRIC`` is a metric."""

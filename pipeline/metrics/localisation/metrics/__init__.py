"""The localisation metrics, one file each; `pipeline.metrics.localisation.metric` says what each declares."""

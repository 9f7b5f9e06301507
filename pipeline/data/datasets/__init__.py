"""Loaders: one file per kind of dataset, found by its name; see `pipeline.data.dataset.DATASETS`."""

"""Loaders: one file per kind of data set, found by its name; see `pipeline.data.dataset.DATASETS`."""

"""Saliency methods: one file each, found by its name; see `pipeline.saliency.method.METHODS`."""

"""Saliency methods: a file per method, found by its name; see `pipeline.registry.METHODS`."""

"""Does a map lie on the object? Metrics that compare maps with boxes and masks; see docs/localisation.md."""

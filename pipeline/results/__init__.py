"""Tables over the whole grid, for people: summaries, the published numbers, and what a run takes."""

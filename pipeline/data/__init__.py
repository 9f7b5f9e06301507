"""Datasets, their pictures and splits, the transforms, and the plan of what is explained."""

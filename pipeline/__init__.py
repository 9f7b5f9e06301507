"""COSE: how consistent and how sensitive are saliency maps?

The library behind the stages, in six rooms; each uses those above it in this list and none below:

- `pipeline.core`: errors, randomness, devices and batches, files, parameters and tables.
- `pipeline.data`: datasets, pictures, transforms, splits and the plan.
- `pipeline.models`: classifiers, their states, training and prediction.
- `pipeline.saliency`: the methods and the loop that explains a cell.
- `pipeline.metrics`: similarities of maps, consistency, sensitivity and COSE.
- `pipeline.results`: tables for people.
"""

"""COSE: how consistent and how sensitive are saliency maps?

The library behind the stages: tensors and tables in, tensors and tables out. It knows nothing of DVC, and only
`pipeline.storage` knows where things lie on disk.
"""

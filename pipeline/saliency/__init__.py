"""Saliency methods, what they share, and the loop that explains every row of a cell."""

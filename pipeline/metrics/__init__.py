"""What the maps of a cell are worth: the similarity of pairs of maps, and the numbers drawn from it."""

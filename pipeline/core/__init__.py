"""What everything rests on: errors, names, randomness, devices and batches, files, parameters and tables."""

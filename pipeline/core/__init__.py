"""What everything else uses: errors, names, randomness, devices and batches, files, parameters and tables."""

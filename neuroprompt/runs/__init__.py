"""What every training run has, whichever trainer does it: arguments, sizes shared among processes, one writer for its
folder, checkpoints that are whole, progress, and samples to read."""

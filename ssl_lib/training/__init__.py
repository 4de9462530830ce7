"""The training loop, its state, checkpoints, parallel strategies and callbacks."""

"""Data sets: image folders, arrays, WebDataset shards, and wrappers for torchvision, Hugging Face and PyTorch."""

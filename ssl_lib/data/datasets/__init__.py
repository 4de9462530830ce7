"""Data sets: folders, arrays, shards, and other libraries' data sets."""

"""File access: image decoding, NumPy files, tar shards, remote files, and caches."""

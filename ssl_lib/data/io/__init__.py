"""Reading images and arrays: decoding, NumPy files, tar shards, remote files, caches."""

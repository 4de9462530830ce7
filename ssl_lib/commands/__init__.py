"""The commands of `ssl-lib`, a file each."""

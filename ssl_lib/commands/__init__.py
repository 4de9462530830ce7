"""The commands of `ssl-lib`: what they take in `arguments`, what they do in a file each."""

"""The command line, `ssl-lib`."""

"""Small tools without knowledge of training: files, YAML, tables, seeds, precision, optional packages."""

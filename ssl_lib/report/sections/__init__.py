"""Sections of the report; each function returns the variables of one template for a list of runs."""

"""Builds a run from its config, and loads trained runs."""

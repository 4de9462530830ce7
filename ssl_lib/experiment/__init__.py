"""Builds experiments from configs and loads trained runs."""

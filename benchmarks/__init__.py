"""Measurements on a running stack: `make bench`."""

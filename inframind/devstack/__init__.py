"""The embedded stack for development, demo and tests: every server from a wheel, none installed."""

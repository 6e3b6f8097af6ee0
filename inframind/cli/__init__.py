"""The ``infra`` command: a client over HTTP that shares only the pure rules with the server."""

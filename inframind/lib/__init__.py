"""The pure rules that the server and the `infra` command share; nothing here knows Django."""

"""Trusted programs that go to a node beside a package, to run it there. Never imported here."""

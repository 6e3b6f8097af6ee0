"""News of the catalog, for the floors above. Sent after the transaction that made them true."""

from django.dispatch import Signal

# Both have sender=Version and version=<Version>.
version_verified = Signal()
version_activated = Signal()

"""The pages' tests publish with the catalog's fixtures."""

from ..catalog.conftest import activated, node, owner, publish, staff, store_dir, stranger

__all__ = ["activated", "node", "owner", "publish", "staff", "store_dir", "stranger"]

"""The content-addressed store of model packages: embedded on disk, or an IPFS node."""

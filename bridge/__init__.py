"""bootc-py: a bridge from OCI images to bootable OSTree deployments."""

__version__ = "0.1.0"

"""Builds the project's real OS images (containerfiles/) into a cache of `oci:` layouts."""

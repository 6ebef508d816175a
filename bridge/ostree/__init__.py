"""The store: OSTree repositories, read and written without libostree.

Formats: https://ostreedev.github.io/ostree/ (repository, formats) and libostree's `ostree-core.h`.
"""

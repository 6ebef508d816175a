"""Which packages an image has, by its own package database: dpkg's or rpm's."""

"""Lints: what is wrong in an image before it is published. bootc's, by their names, and our own.

`registry` has the list, `subject` what is looked at, `run` does it. Each other module has one lint
or a few that belong together, and nothing else, or reads one format.
"""

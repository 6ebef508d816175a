"""Deployments: what turns a commit of the sysroot's repository into something that boots.

This floor knows the repository below it and nothing of registries or layers: it is handed a
commit and the text of an origin. The layout on disk is libostree's, so that `ostree admin` and
bootc can take over a machine at any time; see docs/sysroot.md.
"""

"""Making OS images: what buildah built is looked through, and put into layers that last.

`components` says what changes together, `packing` which of it shares a layer, `layers` writes
these, `rechunk` makes the image of them. `publish` is the way out: an image to where others get it.
`sbom` says what is in one, `cyclonedx` and `spdx` in which words.
"""

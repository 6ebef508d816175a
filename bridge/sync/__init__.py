"""Registry sync jobs: images from one place to another, again and again, at what changed costs.

What is to be done is a `model.Config`, whichever file it was read from; how images move is
`bridge.push`'s matter.
"""

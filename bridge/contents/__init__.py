"""What is in an image or below a directory: names, metadata, content. One view for all who look.

`contents` is the view, `commit` and `directory` make one of a stored commit and of a directory,
`pulled` of an image that is not stored.
"""

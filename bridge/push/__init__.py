"""Writing stored images back out: the same layers and configuration, to a registry or a layout.

`push` is the way in. `export` makes a layer's tar stream again, `compress` packs it, `destination`
takes blobs and documents.
"""

"""The client of OCI registries: authentication, transport, verified manifests, blobs, tags.

`Client` is the way in. Modules of pure rules (challenge, message, retry, token, auth) know no
network; transport and wire are the only ones that do.
"""

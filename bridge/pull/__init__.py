"""Image to store: resolve, plan, fetch, ingest, merge, report.

The seam: a layer is a stream of tar bytes that must hash to its DiffID, wherever they come from.
`streams` makes that stream, `ingest` alone consumes it, `merge` alone puts layers together.
"""

"""The server: takes batches from the link into the store, and answers people and programs over REST.

The package itself imports nothing, so that a client can share ``fathom.server.answers`` without FastAPI.
"""

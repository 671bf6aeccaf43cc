"""The typed client of the server's REST, which the command line, programs and tests use."""

from fathom.client.client import Client, StreamEvent, StreamItem

__all__ = ["Client", "StreamEvent", "StreamItem"]

"""Messages generated from ``api/fathom/v1`` by ``tools/proto.sh``. Nothing here is written by hand but this line."""

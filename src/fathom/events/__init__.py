"""What an event looks like: dtypes from BTF, units, the edge and the batch. No kernel I/O, no network."""

"""What crosses a process, as protobuf and back. Every byte that comes in is checked here, and nowhere later."""

"""What a person types: one module a command, imported only when that command runs. Nothing below imports it."""

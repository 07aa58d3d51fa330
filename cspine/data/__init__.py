"""Which images there are, which of them are one slice, how they are divided; files to arrays."""

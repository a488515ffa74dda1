"""What architectures are put together from: context modules, heads, and the frame that joins them to a backbone."""

"""The command line: argv becomes one call of a plain function, and its result becomes text or JSON. Only this package prints."""

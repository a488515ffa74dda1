"""The command line: argv becomes one call of a plain function, its result text or JSON. Only this package prints."""

"""Exit statuses of the command `richhf`; a command that SIGTERM ends has 143."""

EXIT_PROBLEMS, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130

"""The report of a benchmark: its schema, its file, its tables, its page, and how it compares with an earlier one."""

"""Devices known by name: what people say of them, on the command line and in files that spreadsheets open.

`entry` says what can be said of a device, `file` writes and reads it as CSV, `table` puts it into PostgreSQL,
all of it or nothing, and lists it; `command` is the command line. Whose messages are let in by it is
`gateway/door.py`'s.
"""

"""`gateway dialects`: which dialects there are, and what each makes of what devices send.

`played` has the gateway's own decoder read the examples of a dialect, `listing` shows dialects on a terminal,
`page` writes docs/dialects.md, `toml` writes routes as a configuration has them, `command` is the command
line.
"""

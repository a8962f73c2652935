"""Devices by hand: `projector devices` lists them, mutes some for a while, and retires others.

`words` says it in PostgreSQL, where each projector reads it within a second or two; `listing` reads what
PostgreSQL and Redis know, also without a projector. `command` is the command line.
"""

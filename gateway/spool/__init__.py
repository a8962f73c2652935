"""What the gateway has taken while PostgreSQL was away: on disk, durable, in order of arrival.

`entry` is what stands in the file, `file` the file itself, `shelf` a file that may break and be replaced,
`chunks` and `entrance` the way of a message: past the spool as a rule, through it in an outage, and out of it
by the same path as any other. `places` is what PostgreSQL knows of it. `command`, `reports` and `recover` are
for people.
"""

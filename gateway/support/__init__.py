"""`gateway support-bundle`: one file to send along when asking for help.

`parts` gathers: the configuration, versions, what `gateway check` finds, health and metrics of both programs,
sizes and places in PostgreSQL, the spool, the last lines of the logs. `archive` puts the parts together.
What cannot be had (a server that is away) is a part that says why, as that is what a bundle is mostly for.

No part holds a payload, a measurement or a secret. Secrets are masked where their place tells them; then
each secret of the configuration is searched for in every part, and masked once more.
"""

"""From what a broker carries to the routes that store it.

`heard` keeps some of what comes by, bounded; `shapes` puts topics together that differ in names only;
`known` says which dialect a message is of; `sniff`, `columns` and `guess` say what the others seem to be;
`discovery` puts it all together and tries it with the decoder itself; `written` and `report` say it as TOML
and for people. All of these are pure. `run` listens, for `command`.
"""

"""From what a broker carries to the routes that store it.

`heard` keeps some of what comes by, bounded; `shapes` puts topics together that differ in names only;
`known` says which dialect a message is of; `sniff`, `elements`, `columns`, `fields`, `texts`, `levels` and
`guess` say what the others seem to be; `discovery` puts it all together, `order` lets each topic come to its
own route, and `tally` tries them with the decoder itself; `written` and `report` say it as TOML and for
people. All of these are pure. `run` listens, for `command`.
"""

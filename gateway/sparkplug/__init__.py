"""Sparkplug B as a host application (Eclipse Sparkplug 3.0.0 §5): edge nodes mean what they said before.

A message of data may name its metrics by aliases, which a birth before it explained, and is counted by
`seq`. `topics`, `addresses` and `messages` read what there is; `nodes/` is the state of one edge node,
`fleet` all that are kept in mind, and `host` stands with them in front of the decoder. `keeper` keeps them
in PostgreSQL, with the batch that they came in (`changes`); `ticking` lets time pass between messages;
`voice` asks for rebirths and says that this host is there (`commands`). `naming` gives metrics their names;
`replayed` does for who has no session: replays, and `gateway decode`.

No message is ever named by a birth that may not be the one that it was sent by: `nodes/births` says which is.
"""

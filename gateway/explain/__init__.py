"""`gateway decode`: what a payload becomes and by which route, without a server.

`payloads` reads the bytes, `explanation` has the gateway's own decoder read the message and says what it did,
`others` names dialects that read a topic which no route takes, `render` shows all that, `command` is the
command line.
"""

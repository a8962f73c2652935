"""`gateway decode`: what a payload becomes and by which route, without a server.

`payloads` reads the bytes, `explanation` has the gateway's own decoder read the message and says what it did,
`render` shows that, `command` is the command line.
"""

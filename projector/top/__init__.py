"""`projector top`: devices, regions and lag on a terminal.

`look` reads Redis and a running projector's `/lag`, as much of it as fits on a screen and never everything;
`picture` makes rates of two looks, `screen` draws, `keys` says what a key does, `run` goes round.
"""

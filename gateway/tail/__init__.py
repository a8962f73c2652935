"""`gateway tail`: what arrives, as it arrives, for whoever stands in front of the machine.

Two sources, each with a connection of its own that disturbs nobody: the internal topic (`measurements`) and
the table of dead letters (`rejections`). `keys` tells rows from what others publish, `filters` says what is
wanted of them, `output` writes it as fast as the terminal takes it, `lines` says how it looks, `run` wires
them.
"""

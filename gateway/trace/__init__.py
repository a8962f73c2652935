"""`gateway trace`: what became of one message.

`search` asks PostgreSQL and Redis, `facts` is what they say, `story` what it amounts to, `render` how that
looks. Only what is kept somewhere can be told: a repeat leaves nothing behind but a count, and a message in
flight is still in memory.
"""

"""The live page at `/`: what an operator sees within five seconds of arriving.

One board looks once a second at the meters, Redis and the dead letters, for as long as somebody looks at
it, and everybody who looks gets the same frames:

    meters, views, letters → board → frames → feed → routes → the page's files in `page/`

What a look costs is bounded whatever the fleet: every device is known (`roster`, `census`), and who is silent
the watch knows; details are read only for the rows that are on somebody's screen, and a
viewer who cannot keep up gets the newest state instead of a queue.
"""

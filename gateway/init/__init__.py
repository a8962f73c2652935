"""`gateway init`: all that a site of its own needs, made at once, with secrets that nobody else has.

`answers` is what was asked; `broker`, `postgres`, `redis` and `pages` each make the text of some files of it
(pure); `words` makes secrets and what servers keep of them, `certificates` the site's own authority. `site`
puts them together, `folder` writes them, and `devices` gives devices passwords later.
"""

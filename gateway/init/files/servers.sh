#!/bin/sh
# The broker and Redis with the files of this site, until Ctrl-C. Those that systemd starts want the same files.
PATH=$$PATH:/usr/local/sbin:/usr/sbin
${servers}trap 'kill $$pids 2>/dev/null' INT TERM
wait
wait

#!/bin/sh
# Gateway and projector, until Ctrl-C.
$gateway run --config $folder/edge.toml & pids=$$!
env $$(cat $folder/projector.env) $projector run & pids="$$pids $$!"
trap 'kill $$pids 2>/dev/null' INT TERM
wait
wait

"""Soak: a shop under chaos, audited: `make soak MINUTES=10`, which is `python -m soak --minutes 10`.

| file | |
|---|---|
| `play` | the whole run, in order: start here |
| `flow` | orders, one after the other |
| `plan` | what strikes when, the same for the same seed |
| `chaos` | the strikes |
| `census` | which worker number a process has |
| `drain` | the wait for the end of all that was begun |
| `audit` | what is wrong afterwards, in words |
| `trace` | which attempts really ran |
| `records` | what the log's tables tell |
| `recovery` | how long it takes from a kill to the next attempt |
| `memory` | whether the workers grow |
| `orphans` | how long one worker takes to go on with what many left behind |
| `claimer`, `noop_app` | those who leave it behind |
| `app` | what the workers run: the shop, with a trace |
| `leftovers` | processes that outlived the run |
| `background` | something that goes on beside the main thread |
| `report` | what came of it, and how it is shown |
"""

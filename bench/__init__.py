"""Bench: what sagas cost next to Celery's own chains and to their peers, measured side by side: `make bench`.

| file | |
|---|---|
| `workloads` | what is measured: start here |
| `contenders` | who is measured, and when a run has ended |
| `rounds` | how: in turn, round by round, the first one thrown away |
| `servers` | Postgres, the broker and the workers, embedded or given |
| `meter` | what a run costs: processor time, statements, commits, WAL |
| `app` | what the workers run: tasks that do nothing, as sagas and as chains |
| `floor` | the statements that any log of sagas needs, without the sagas |
| `celery_saga_app` | the same sagas for celery-saga |
| `dbos_app`, `dbos_peer` | the same workflows for DBOS, in a process of its own, and how to talk to it |
| `figures` | medians, spreads and ratios |
| `facts` | on what machine, with which versions |
| `report` | the tables and the JSON document |
| `chart` | the pictures |
| `guard` | the ratios under which `make bench-check` fails, which are in `floors.json` |
| `machines` | the same with more workers |
| `wide`, `wide_app` | what a branch costs in sagas of many branches, next to sagas of few: `python -m bench.wide` |
"""
